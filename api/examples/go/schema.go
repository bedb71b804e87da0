// SPDX-License-Identifier: Apache-2.0

// The messages and methods, read from the .proto files: numbers, names and types all come from there. Only what these files
// use is understood; a client for production has code made by protoc instead.

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Field is one field of a message.
type Field struct {
	Name, Type string
	Number     uint64
	Repeated   bool
}

// Method is one call.
type Method struct {
	Name, Request, Reply string
	Number               uint32
	BytesIn, BytesOut    bool
}

// Schema is all of them.
type Schema struct {
	Messages map[string][]Field
	Enums    map[string]map[string]uint64
	Methods  map[string]Method
}

var (
	blockLine  = regexp.MustCompile(`^(service|message|enum)\s+(\w+)\s*\{(\})?`)
	fieldLine  = regexp.MustCompile(`^(repeated\s+)?([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*(\[.*\])?;`)
	valueLine  = regexp.MustCompile(`^(\w+)\s*=\s*(\d+);`)
	methodLine = regexp.MustCompile(`^rpc\s+(\w+)\s*\((\w+)\)\s*returns\s*\((\w+)\)`)
	numberRule = regexp.MustCompile(`number:\s*(\d+)`)
)

// ReadSchema reads FOLDER/gitstead/v1/*.proto.
func ReadSchema(folder string) (*Schema, error) {
	schema := &Schema{map[string][]Field{}, map[string]map[string]uint64{}, map[string]Method{}}
	files, err := filepath.Glob(filepath.Join(folder, "gitstead/v1/*.proto"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there are no .proto files in %s/gitstead/v1", folder)
	}
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		if readErr != nil {
			return nil, readErr
		}
		schema.readFile(string(text))
	}
	return schema, err
}

func (schema *Schema) readFile(text string) {
	kind, name := "", ""
	var method Method
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if match := blockLine.FindStringSubmatch(line); match != nil {
			kind, name = match[1], match[2]
			switch kind {
			case "message":
				schema.Messages[name] = nil
			case "enum":
				schema.Enums[name] = map[string]uint64{}
			}
			continue
		}
		switch kind {
		case "message":
			if match := fieldLine.FindStringSubmatch(line); match != nil {
				var number uint64
				fmt.Sscan(match[4], &number)
				schema.Messages[name] = append(schema.Messages[name], Field{match[3], match[2], number, match[1] != ""})
			}
		case "enum":
			if match := valueLine.FindStringSubmatch(line); match != nil {
				var number uint64
				fmt.Sscan(match[2], &number)
				schema.Enums[name][match[1]] = number
			}
		case "service":
			if match := methodLine.FindStringSubmatch(line); match != nil {
				method = Method{Name: strings.TrimSuffix(name, "Service") + "/" + match[1], Request: match[2], Reply: match[3]}
			} else if match := numberRule.FindStringSubmatch(line); match != nil {
				fmt.Sscan(match[1], &method.Number)
				method.BytesIn = strings.Contains(line, "bytes_in: true")
				method.BytesOut = strings.Contains(line, "bytes_out: true")
				schema.Methods[method.Name] = method
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

// Protobuf, as much as the API needs: varints, and everything that has a length.

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Message is one message by the names of its fields. A value is a string (for string and for bytes: Go's strings hold any
// bytes), a uint64, an int64, a bool, a Message, an enum's name, or a []any of these.
type Message map[string]any

var errCut = errors.New("a message is cut short")

func isScalar(kind string) bool {
	switch kind {
	case "bool", "uint32", "uint64", "int32", "int64":
		return true
	}
	return false
}

// Encode gives the bytes of a message of type kind.
func (schema *Schema) Encode(kind string, message Message) ([]byte, error) {
	var out []byte
	left := len(message)
	for _, field := range schema.Messages[kind] {
		value, there := message[field.Name]
		if !there {
			continue
		}
		left--
		values, many := value.([]any)
		if !many {
			values = []any{value}
		}
		if many != field.Repeated {
			return nil, fmt.Errorf("%s.%s: one value or a list of them?", kind, field.Name)
		}
		for _, one := range values {
			var err error
			if out, err = schema.encodeOne(out, kind, field, one); err != nil {
				return nil, err
			}
		}
	}
	if left > 0 {
		return nil, fmt.Errorf("%s has none of the fields in %v", kind, message)
	}
	return out, nil
}

func (schema *Schema) encodeOne(out []byte, kind string, field Field, value any) ([]byte, error) {
	var bytes []byte
	switch typed := value.(type) {
	case string:
		if names, isEnum := schema.Enums[field.Type]; isEnum {
			number, known := names[typed]
			if !known {
				return nil, fmt.Errorf("%s.%s: %s has no value %s", kind, field.Name, field.Type, typed)
			}
			return binary.AppendUvarint(binary.AppendUvarint(out, field.Number<<3), number), nil
		}
		bytes = []byte(typed)
	case Message:
		var err error
		if bytes, err = schema.Encode(field.Type, typed); err != nil {
			return nil, err
		}
	case bool:
		number := uint64(0)
		if typed {
			number = 1
		}
		return binary.AppendUvarint(binary.AppendUvarint(out, field.Number<<3), number), nil
	case int:
		return binary.AppendUvarint(binary.AppendUvarint(out, field.Number<<3), uint64(int64(typed))), nil
	case int64:
		return binary.AppendUvarint(binary.AppendUvarint(out, field.Number<<3), uint64(typed)), nil
	case uint64:
		return binary.AppendUvarint(binary.AppendUvarint(out, field.Number<<3), typed), nil
	default:
		return nil, fmt.Errorf("%s.%s: a %T cannot be sent", kind, field.Name, value)
	}
	out = binary.AppendUvarint(out, field.Number<<3|2)
	out = binary.AppendUvarint(out, uint64(len(bytes)))
	return append(out, bytes...), nil
}

// Decode reads a message of type kind. Fields that the schema does not know are left out: a newer server may send them.
func (schema *Schema) Decode(kind string, data []byte) (Message, error) {
	message := Message{}
	for _, field := range schema.Messages[kind] {
		if field.Repeated {
			message[field.Name] = []any{}
		} else if isScalar(field.Type) || field.Type == "string" || field.Type == "bytes" || schema.Enums[field.Type] != nil {
			message[field.Name], _ = schema.value(field, 0, nil)
		}
	}
	for len(data) > 0 {
		tag, n := binary.Uvarint(data)
		if n <= 0 {
			return nil, errCut
		}
		data = data[n:]
		number, bytes, rest, err := cutValue(tag&7, data)
		if err != nil {
			return nil, err
		}
		data = rest
		for _, field := range schema.Messages[kind] {
			if field.Number == tag>>3 {
				if err = schema.take(message, field, tag&7, number, bytes); err != nil {
					return nil, err
				}
			}
		}
	}
	return message, nil
}

// cutValue takes one value off data: a number, or bytes.
func cutValue(wire uint64, data []byte) (number uint64, bytes, rest []byte, err error) {
	switch wire {
	case 0:
		value, n := binary.Uvarint(data)
		if n <= 0 {
			return 0, nil, nil, errCut
		}
		return value, nil, data[n:], nil
	case 2:
		size, n := binary.Uvarint(data)
		if n <= 0 || size > uint64(len(data)-n) {
			return 0, nil, nil, errCut
		}
		return 0, data[n : n+int(size)], data[n+int(size):], nil
	}
	return 0, nil, nil, fmt.Errorf("wire type %d is not used by this API", wire)
}

func (schema *Schema) take(message Message, field Field, wire, number uint64, bytes []byte) error {
	packed := field.Repeated && wire == 2 && (isScalar(field.Type) || schema.Enums[field.Type] != nil)
	for packed && len(bytes) > 0 {
		one, n := binary.Uvarint(bytes)
		if n <= 0 {
			return errCut
		}
		value, _ := schema.value(field, one, nil)
		message[field.Name] = append(message[field.Name].([]any), value)
		bytes = bytes[n:]
	}
	if packed {
		return nil
	}
	value, err := schema.value(field, number, bytes)
	if field.Repeated {
		message[field.Name] = append(message[field.Name].([]any), value)
	} else {
		message[field.Name] = value
	}
	return err
}

func (schema *Schema) value(field Field, number uint64, bytes []byte) (any, error) {
	switch field.Type {
	case "string", "bytes":
		return string(bytes), nil
	case "bool":
		return number != 0, nil
	case "int32", "int64":
		return int64(number), nil
	case "uint32", "uint64":
		return number, nil
	}
	if names, isEnum := schema.Enums[field.Type]; isEnum {
		for name, value := range names {
			if value == number {
				return name, nil
			}
		}
		return number, nil
	}
	return schema.Decode(field.Type, bytes)
}

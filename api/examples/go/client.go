// SPDX-License-Identifier: Apache-2.0

// The wire of docs/wire-protocol.md on plain sockets: SP's REQ, the envelope, signatures, repeats, bulk streams.

package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	maxReply     = 64 << 20
	maxChunk     = 256 << 10
	chunkData    = 1
	chunkEnd     = 2
	chunkTrailer = 3
	chunkReset   = 4
	chunkPing    = 5
)

var codes = strings.Fields("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED BUSY " +
	"FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED")

// Error is what the server answered.
type Error struct {
	Code       string
	Message    string
	Retry      string
	RetryAfter time.Duration
	Details    []any // of Message: gitstead.v1.ErrorDetail
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Client has one connection and makes one call at a time.
type Client struct {
	Schema  *Schema
	Timeout time.Duration

	network, address, token string
	conn                    net.Conn
	next                    uint32
}

// Dial opens no connection yet: the first call does. The URL is tcp://HOST:PORT or ipc:///PATH.
func Dial(url, token string, schema *Schema) (*Client, error) {
	scheme, address, found := strings.Cut(url, "://")
	network := map[string]string{"tcp": "tcp", "ipc": "unix"}[scheme]
	if !found || network == "" {
		return nil, fmt.Errorf("'%s' is neither tcp://HOST:PORT nor ipc:///PATH", url)
	}
	return &Client{Schema: schema, Timeout: 30 * time.Second, network: network, address: address, token: token}, nil
}

// Close ends the connection. The server cancels what is under way on it.
func (client *Client) Close() {
	if client.conn != nil {
		client.conn.Close()
		client.conn = nil
	}
}

// Call makes a call, and repeats it under the same id as long as the server says so and there is time.
func (client *Client) Call(name string, request Message) (Message, error) {
	return client.CallStream(name, request, nil, nil)
}

// CallStream is Call for methods with bulk bytes: all of input is sent, what comes is written to output.
func (client *Client) CallStream(name string, request Message, input io.Reader, output io.Writer) (Message, error) {
	method, known := client.Schema.Methods[name]
	if !known {
		return nil, fmt.Errorf("there is no method %s", name)
	}
	payload, err := client.Schema.Encode(method.Request, request)
	if err != nil {
		return nil, err
	}
	callID := random(16)
	deadline := time.Now().Add(client.Timeout)
	for attempt := uint64(0); ; attempt++ {
		reply, err := client.try(method, payload, callID, attempt, deadline)
		if err == nil && (method.BytesIn || method.BytesOut) {
			return client.stream(method, reply, deadline, input, output)
		}
		if err == nil {
			return client.Schema.Decode(method.Reply, reply)
		}
		var answered *Error
		pause := 50 * time.Millisecond << min(attempt, 5)
		if errors.As(err, &answered) {
			if answered.Retry != "RETRY_SAME" {
				return nil, err
			}
			if answered.RetryAfter > pause {
				pause = answered.RetryAfter
			}
		}
		// Without an answer nobody knows whether it was done; the same call id makes a repeat harmless.
		if time.Now().Add(pause).After(deadline) {
			return nil, err
		}
		time.Sleep(pause)
	}
}

func min(a, b uint64) uint64 {
	if a < b {
		return a
	}
	return b
}

func random(size int) []byte {
	bytes := make([]byte, size)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return bytes
}

// try sends the request once and gives the reply's payload.
func (client *Client) try(method Method, payload, callID []byte, attempt uint64, deadline time.Time) ([]byte, error) {
	header := Message{"call_id": string(callID), "attempt": attempt, "agent": "gitstead-go-example",
		"timeout_ms": uint64(time.Until(deadline)/time.Millisecond) + 1}
	if client.token != "" && client.network == "tcp" {
		header["auth"] = Message{"signature": client.sign(method.Number, payload, callID)}
	} else if client.token != "" {
		header["auth"] = Message{"bearer": client.token}
	}
	head, err := client.Schema.Encode("RequestHeader", header)
	if err != nil {
		return nil, err
	}
	body, err := client.exchange(append(append(prefix(method.Number, len(head), len(payload)), head...), payload...), deadline)
	if err != nil {
		client.Close()
		return nil, err
	}
	return client.readReply(body)
}

func prefix(method uint32, head, payload int) []byte {
	out := []byte{'G', 'S', 1, 0}
	for _, number := range []uint32{method, uint32(head), uint32(payload)} {
		out = binary.BigEndian.AppendUint32(out, number)
	}
	return out
}

// sign makes a signature, with which the token itself never travels.
func (client *Client) sign(method uint32, payload, callID []byte) Message {
	parts := strings.SplitN(client.token, "_", 3)
	if len(parts) != 3 {
		return Message{}
	}
	nonce, now := random(16), uint64(time.Now().Unix())
	digest := sha256.Sum256(payload)
	signed := append(prefix(method, 0, len(payload)), callID...)
	signed = append(signed, parts[1]...)
	signed = binary.BigEndian.AppendUint64(signed, now)
	signed = append(append(signed, nonce...), digest[:]...)
	key := sha256.Sum256([]byte("gitstead sign v1\x00" + parts[2]))
	mac := hmac.New(sha256.New, key[:])
	mac.Write(signed)
	return Message{"key_id": parts[1], "time": now, "nonce": string(nonce), "tag": string(mac.Sum(nil))}
}

// connect greets as SP's REQ does.
func (client *Client) connect(deadline time.Time) error {
	conn, err := net.DialTimeout(client.network, client.address, time.Until(deadline))
	if err != nil {
		return err
	}
	greeting := make([]byte, 8)
	conn.SetDeadline(deadline)
	if _, err = conn.Write([]byte{0, 'S', 'P', 0, 0, 0x30, 0, 0}); err == nil {
		_, err = io.ReadFull(conn, greeting)
	}
	if err == nil && !bytes.Equal(greeting, []byte{0, 'S', 'P', 0, 0, 0x31, 0, 0}) {
		err = errors.New("what listens there is no Gitstead")
	}
	if err != nil {
		conn.Close()
		return err
	}
	client.conn = conn
	return nil
}

// exchange sends one message and waits for its reply.
func (client *Client) exchange(envelope []byte, deadline time.Time) ([]byte, error) {
	if client.conn == nil {
		if err := client.connect(deadline); err != nil {
			return nil, err
		}
	}
	client.conn.SetDeadline(deadline)
	client.next++
	var out []byte
	if client.network == "unix" {
		out = append(out, 1)
	}
	out = binary.BigEndian.AppendUint64(out, uint64(4+len(envelope)))
	out = binary.BigEndian.AppendUint32(out, client.next|0x80000000)
	if _, err := client.conn.Write(append(out, envelope...)); err != nil {
		return nil, err
	}
	head := make([]byte, 8+len(out)-12)
	if _, err := io.ReadFull(client.conn, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint64(head[len(head)-8:])
	if size < 4 || size > maxReply {
		return nil, fmt.Errorf("a reply of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(client.conn, body); err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(body) != client.next|0x80000000 {
		return nil, errors.New("the reply to something else")
	}
	return body[4:], nil
}

func (client *Client) readReply(body []byte) ([]byte, error) {
	if len(body) < 16 || string(body[:3]) != "GS\x01" || body[3]&1 == 0 {
		return nil, errors.New("the reply makes no sense")
	}
	status, head := binary.BigEndian.Uint32(body[4:]), binary.BigEndian.Uint32(body[8:])
	if uint64(len(body)) != 16+uint64(head)+uint64(binary.BigEndian.Uint32(body[12:])) {
		return nil, errors.New("the reply has another length than it says")
	}
	header, err := client.Schema.Decode("ReplyHeader", body[16:16+head])
	if err == nil && status != 0 {
		err = failure(status, header)
	}
	return body[16+head:], err
}

func failure(status uint32, header Message) error {
	code := fmt.Sprint(status)
	if int(status) < len(codes) {
		code = codes[status]
	}
	retry, _ := header["retry"].(string)
	after, _ := header["retry_after_ms"].(uint64)
	message, _ := header["message"].(string)
	details, _ := header["details"].(Message)
	entries, _ := details["entries"].([]any)
	return &Error{code, message, retry, time.Duration(after) * time.Millisecond, entries}
}

// ------------------------------------------------------------------------------------------ bulk bytes

// stream carries the bytes of a call on a connection of their own; the ticket stands in the call's reply.
func (client *Client) stream(method Method, reply []byte, deadline time.Time, input io.Reader, output io.Writer) (Message, error) {
	ticket, err := client.Schema.Decode("StreamTicket", reply)
	if err != nil {
		return nil, err
	}
	conn, err := client.openStream(ticket["endpoint"].(string), ticket["ticket"].(string), deadline)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() { sent <- sendAll(conn, input) }()
	trailer, err := client.receive(conn, output)
	if err != nil {
		return nil, err
	}
	if status, _ := trailer["status"].(uint64); status != 0 {
		header, _ := trailer["header"].(Message)
		return nil, failure(uint32(status), header)
	}
	if err = <-sent; err != nil {
		return nil, err
	}
	payload, _ := trailer["payload"].(string)
	return client.Schema.Decode(method.Reply, []byte(payload))
}

func (client *Client) openStream(endpoint, ticket string, deadline time.Time) (net.Conn, error) {
	_, address, _ := strings.Cut(endpoint, "://")
	if strings.HasPrefix(address, ":") {
		host, _, _ := net.SplitHostPort(client.address)
		address = net.JoinHostPort(host, address[1:])
	}
	conn, err := net.DialTimeout(client.network, address, time.Until(deadline))
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(deadline)
	answer := make([]byte, 8)
	if _, err = conn.Write([]byte("GSD1\x00\x00\x00\x00" + ticket)); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err == nil && (string(answer[:4]) != "GSD1" || binary.BigEndian.Uint32(answer[4:]) != 0) {
		err = errors.New("the server does not take the ticket")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func writeChunk(conn net.Conn, kind byte, data []byte) error {
	_, err := conn.Write(append(binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, uint32(len(data))), data...))
	return err
}

// sendAll sends the input, if there is any, and the end.
func sendAll(conn net.Conn, input io.Reader) error {
	buffer := make([]byte, maxChunk)
	for input != nil {
		n, err := input.Read(buffer)
		if n > 0 {
			if writeErr := writeChunk(conn, chunkData, buffer[:n]); writeErr != nil {
				return writeErr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	return writeChunk(conn, chunkEnd, nil)
}

// receive writes what comes to output, until the trailer: without one the bytes are not whole.
func (client *Client) receive(conn net.Conn, output io.Writer) (Message, error) {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(conn, head); err != nil {
			return nil, fmt.Errorf("the stream broke: %w", err)
		}
		size := binary.BigEndian.Uint32(head[4:])
		if size > maxChunk {
			return nil, fmt.Errorf("a chunk of %d bytes", size)
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(conn, data); err != nil {
			return nil, fmt.Errorf("the stream broke: %w", err)
		}
		switch head[0] {
		case chunkData:
			if output == nil {
				return nil, errors.New("bulk bytes where none belong")
			}
			if _, err := output.Write(data); err != nil {
				return nil, err
			}
		case chunkTrailer:
			return client.Schema.Decode("StreamTrailer", data)
		case chunkReset:
			return nil, errors.New("the server broke the stream off")
		case chunkPing, chunkEnd:
		default:
			return nil, fmt.Errorf("a chunk of type %d", head[0])
		}
	}
}

package scheduler

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
)

// ID is the 16 bytes of a UUID, as rows of allocations hold it. The zero ID means "none".
type ID [16]byte

// String is the UUID in lower case, or "" for the zero ID.
func (id ID) String() string {
	if id == (ID{}) {
		return ""
	}
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// source is a stream of pseudo-random bytes that depends on the seed alone: AES-128 in counter mode under the seed. It
// gives a plan its ids and its choice of ports.
type source struct {
	stream cipher.Stream
	buf    [512]byte
	next   int
}

func newSource(seed [16]byte) *source {
	block, err := aes.NewCipher(seed[:])
	if err != nil {
		panic(err) // impossible: the key has 16 bytes
	}
	s := &source{stream: cipher.NewCTR(block, make([]byte, aes.BlockSize))}
	s.next = len(s.buf)
	return s
}

// take returns the next n bytes, n at most 16; they are valid until the next call.
func (s *source) take(n int) []byte {
	if s.next+n > len(s.buf) {
		clear(s.buf[:])
		s.stream.XORKeyStream(s.buf[:], s.buf[:])
		s.next = 0
	}
	s.next += n
	return s.buf[s.next-n : s.next]
}

// id returns a fresh id with the version and variant bits of a random (version 4) UUID.
func (s *source) id() ID {
	id := ID(s.take(16))
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (s *source) uint32() uint32 { return binary.LittleEndian.Uint32(s.take(4)) }

// below returns a number in [0, n); n must be positive.
func (s *source) below(n int) int { return int(uint64(s.uint32()) * uint64(n) >> 32) }

package state

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/brumehq/brume/api"
)

// ID is the 16 bytes of an allocation's UUID. The zero ID means "none".
type ID [16]byte

// ParseID reads a UUID in its usual text form, in either case; the empty text gives the zero ID. Errors are
// api.ErrInvalid.
func ParseID(s string) (ID, error) {
	var id ID
	if s == "" {
		return id, nil
	}
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, fmt.Errorf("id %q: %w", s, api.ErrInvalid)
	}
	for _, part := range [5][3]int{{0, 8, 0}, {9, 13, 4}, {14, 18, 6}, {19, 23, 8}, {24, 36, 10}} {
		if _, err := hex.Decode(id[part[2]:], []byte(s[part[0]:part[1]])); err != nil {
			return ID{}, fmt.Errorf("id %q: %w", s, api.ErrInvalid)
		}
	}
	return id, nil
}

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

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }

// idPrefix is the beginning of an id: any number of hex digits.
type idPrefix struct {
	low    ID  // the digits, filled up with zeros
	digits int // how many count
}

// parsePrefix reads the beginning of a UUID; dashes may stand where they belong. ok is false where no id can begin so.
func parsePrefix(s string) (p idPrefix, ok bool) {
	if len(s) > 36 {
		return p, false
	}
	var hexes strings.Builder
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') {
			return p, false
		}
		if !dash {
			hexes.WriteByte(s[i])
		}
	}
	text := hexes.String()
	p.digits = len(text)
	_, err := hex.Decode(p.low[:], []byte(text+"0"[:len(text)%2]))
	return p, err == nil
}

// matches reports whether id begins with p.
func (p idPrefix) matches(id ID) bool {
	whole := p.digits / 2
	if !bytes.Equal(id[:whole], p.low[:whole]) {
		return false
	}
	return p.digits%2 == 0 || id[whole]&0xf0 == p.low[whole]
}

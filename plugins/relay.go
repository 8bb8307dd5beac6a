package plugins

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

// Bounds of a plugin's log: a line longer than maxLogLine is cut, lines beyond the rate are counted, not logged.
const (
	maxLogLine   = 16 << 10
	maxLogFields = 32
	logsPerSec   = 200
	logBurst     = 1000
	logTail      = 8 // lines kept to explain a plugin that does not start
)

// relay brings a plugin's log into the host's.
type relay struct {
	log *slog.Logger

	mu   sync.Mutex
	tail []string
}

// run reads until from ends.
func (r *relay) run(from io.Reader) {
	reader := bufio.NewReaderSize(from, maxLogLine)
	allow := rate.NewLimiter(logsPerSec, logBurst)
	dropped := 0
	cut := false // the line goes on, and its beginning is logged already
	for {
		line, err := reader.ReadSlice('\n')
		if text := strings.TrimSpace(strings.ToValidUTF8(string(line), "�")); text != "" && !cut {
			r.remember(text)
			switch {
			case !allow.Allow():
				dropped++
			case dropped > 0:
				r.log.Warn("plugin logs too much", "dropped", dropped)
				dropped = 0
				fallthrough
			default:
				r.line(text)
			}
		}
		cut = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !cut {
			return
		}
	}
}

// remember keeps the last lines.
func (r *relay) remember(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tail = append(r.tail, clip(message(line), 256))
	if len(r.tail) > logTail {
		r.tail = slices.Delete(r.tail, 0, len(r.tail)-logTail)
	}
}

// last is what the plugin logged last.
func (r *relay) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.tail, "; ")
}

// message is the readable part of a line of hclog's JSON, or the line.
func message(line string) string {
	var m struct {
		Message string `json:"@message"`
		Error   any    `json:"error"`
	}
	if json.Unmarshal([]byte(line), &m) != nil || m.Message == "" {
		return line
	}
	if text, ok := m.Error.(string); ok && text != "" {
		return m.Message + ": " + text
	}
	return m.Message
}

// line logs one line: hclog's JSON at its level with its fields, anything else as it is.
func (r *relay) line(text string) {
	var fields map[string]any
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &fields) != nil {
		r.log.Debug("plugin log", "line", text)
		return
	}
	message, _ := fields["@message"].(string)
	if message == "" {
		r.log.Debug("plugin log", "line", text)
		return
	}
	attrs := []slog.Attr{slog.String("text", message)}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if strings.HasPrefix(k, "@") && k != "@module" {
			continue
		}
		if attrs = append(attrs, slog.Any(strings.TrimPrefix(k, "@"), fields[k])); len(attrs) > maxLogFields {
			break
		}
	}
	r.log.LogAttrs(context.Background(), level(fields["@level"]), "plugin log", attrs...)
}

// level is hclog's as slog's. What is information to a plugin is a detail to the host.
func level(v any) slog.Level {
	switch v {
	case "error":
		return slog.LevelError
	case "warn":
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

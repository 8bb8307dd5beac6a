package server

import (
	"context"
	"io"
	"log"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// raftLog gives Raft's log lines to slog. Its Info is Debug here: what an operator must know of elections and snapshots
// is logged by the hub itself, once.
type raftLog struct {
	log  *slog.Logger
	name string
	with []any
}

var _ hclog.Logger = (*raftLog)(nil)

func newRaftLog(l *slog.Logger) *raftLog {
	return &raftLog{log: l.With("component", "raft"), name: "raft"}
}

func (l *raftLog) put(level slog.Level, msg string, args []any) {
	l.log.Log(context.Background(), level, msg, args...) //nolint:sloglint // the message is Raft's
}

// Log maps hclog's levels.
func (l *raftLog) Log(level hclog.Level, msg string, args ...any) {
	switch level {
	case hclog.Error:
		l.put(slog.LevelError, msg, args)
	case hclog.Warn:
		l.put(slog.LevelWarn, msg, args)
	case hclog.Info, hclog.Debug:
		l.put(slog.LevelDebug, msg, args)
	}
}

func (l *raftLog) Trace(string, ...any)          {}
func (l *raftLog) Debug(msg string, args ...any) { l.put(slog.LevelDebug, msg, args) }
func (l *raftLog) Info(msg string, args ...any)  { l.put(slog.LevelDebug, msg, args) }
func (l *raftLog) Warn(msg string, args ...any)  { l.put(slog.LevelWarn, msg, args) }
func (l *raftLog) Error(msg string, args ...any) { l.put(slog.LevelError, msg, args) }
func (l *raftLog) IsTrace() bool                 { return false }
func (l *raftLog) IsDebug() bool                 { return l.log.Enabled(context.Background(), slog.LevelDebug) }
func (l *raftLog) IsInfo() bool                  { return l.IsDebug() }
func (l *raftLog) IsWarn() bool                  { return true }
func (l *raftLog) IsError() bool                 { return true }
func (l *raftLog) ImpliedArgs() []any            { return l.with }
func (l *raftLog) Name() string                  { return l.name }
func (l *raftLog) GetLevel() hclog.Level         { return hclog.Debug }
func (l *raftLog) SetLevel(hclog.Level)          {}

// With adds attributes to every line.
func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{log: l.log.With(args...), name: l.name, with: append(slices.Clip(l.with), args...)}
}

// Named names the part of Raft that logs.
func (l *raftLog) Named(name string) hclog.Logger {
	return &raftLog{log: l.log, name: l.name + "." + name, with: l.with}
}

// ResetNamed replaces the name.
func (l *raftLog) ResetNamed(name string) hclog.Logger {
	return &raftLog{log: l.log, name: name, with: l.with}
}

// StandardLogger serves the parts of Raft that want a standard one.
func (l *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

// StandardWriter serves those that want only its writer.
func (l *raftLog) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}

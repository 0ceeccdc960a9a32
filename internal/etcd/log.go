package etcd

import (
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// bridge sends etcd's warnings and errors to our logger. What etcd has to say besides is about a cluster that is not ours to run.
type bridge struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// expected are messages about what is so by design: one member, no port, and at the first start nothing to read a version from.
func expected(message string) bool {
	switch message {
	case "Running http and grpc server on single port. This is not recommended for production.",
		"simple token is not cryptographically signed", "Failed to detect schema version", "failed to update storage version":
		return true
	}
	return false
}

// Enabled implements zapcore.Core.
func (b *bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{log: b.log, fields: append(b.fields[:len(b.fields):len(b.fields)], fields...)}
}

// Check implements zapcore.Core.
func (b *bridge) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return ce.AddCore(e, b)
	}
	return ce
}

// Write implements zapcore.Core.
func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if expected(e.Message) {
		return nil
	}
	encoder := zapcore.NewMapObjectEncoder()
	for _, list := range [][]zapcore.Field{b.fields, fields} {
		for _, f := range list {
			f.AddTo(encoder)
		}
	}
	args := make([]any, 0, 2+2*len(encoder.Fields))
	args = append(args, "from", "etcd")
	for k, v := range encoder.Fields {
		args = append(args, k, v)
	}
	if e.Level > zapcore.WarnLevel {
		b.log.Error(e.Message, args...)
	} else {
		b.log.Warn(e.Message, args...)
	}
	return nil
}

// Sync implements zapcore.Core.
func (b *bridge) Sync() error { return nil }

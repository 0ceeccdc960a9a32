package main

import (
	"fmt"
	"io"
	"log/slog"

	"k8s.io/klog/v2"
)

// newLogger returns the process's logger, which client-go's own log lines go to as well.
func newLogger(cfg *config, out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.logLevel)); err != nil {
		return nil, fmt.Errorf("log-level %q: debug, info, warn or error", cfg.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler
	switch cfg.logFormat {
	case "text":
		handler = slog.NewTextHandler(out, options)
	case "json":
		handler = slog.NewJSONHandler(out, options)
	default:
		return nil, fmt.Errorf("log-format %q: text or json", cfg.logFormat)
	}
	log := slog.New(handler)
	klog.SetSlogLogger(log.With("from", "client-go"))
	return log, nil
}

func processLogger(cfg *config) (*slog.Logger, error) { return newLogger(cfg, logOutput(cfg)) }

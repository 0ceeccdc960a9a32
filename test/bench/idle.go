package main

import (
	"context"
	"time"

	"canopus/test/plane"
)

// settle is how long a server rests before its idle memory is taken: the work of starting is over then.
const settle = 10 * time.Second

// measureIdle is what a control plane costs that has nothing to do.
func measureIdle(ctx context.Context, b *bench) error {
	limit, err := etcdStart(ctx, b.work)
	if err != nil {
		return err
	}
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer func() { s.Down() }()
	b.say("start.ready", time.Since(s.Began).Seconds(), "s", limit.Seconds())
	if err := plane.Pause(ctx, settle); err != nil {
		return err
	}
	if err := b.sayMemory(s, "idle.rss"); err != nil {
		return err
	}
	if err := b.sayIdleCPU(ctx, s, "idle.cpu"); err != nil {
		return err
	}
	s.Down()
	if err := s.Up(ctx); err != nil {
		return err
	}
	b.say("restart.ready", time.Since(s.Began).Seconds(), "s", 0)
	if err := plane.Pause(ctx, settle); err != nil {
		return err
	}
	return b.sayMemory(s, "idle.rss.restart")
}

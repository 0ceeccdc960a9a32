package verdict

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

const (
	pushEvery = time.Second // at most
	pushNodes = 20          // per reason, and of those with a score: what people read
)

// Push tells the API server that c speaks to what is new in b, until ctx ends. Losing some is no harm: they are for people, and
// the pod's condition has the gist.
func (b *Book) Push(ctx context.Context, c rest.Interface, clk clock.WithTicker, log *slog.Logger) error {
	told := make(chan struct{}, 1)
	b.mu.Lock()
	b.told, b.news = told, map[types.NamespacedName]bool{}
	b.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told:
		}
		if list := b.takeNews(); len(list) > 0 {
			body, err := json.Marshal(list)
			if err == nil {
				err = c.Put().AbsPath(Path).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
			}
			if err != nil && ctx.Err() == nil {
				log.Debug("telling the API server about scheduling decisions failed", "error", err)
			}
		}
		timer := clk.NewTimer(pushEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
}

// takeNews renders what is new, in short.
func (b *Book) takeNews() []Verdict {
	b.mu.Lock()
	var pages []*page
	for key := range b.news {
		if e := b.pages[key]; e != nil {
			pages = append(pages, e.Value.(*page))
		}
	}
	clear(b.news)
	b.mu.Unlock()
	out := make([]Verdict, 0, len(pages))
	for _, p := range pages {
		out = append(out, p.render().shortened(pushNodes))
	}
	return out
}

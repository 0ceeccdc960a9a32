package usage

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

const (
	agentPort = "10250"
	// maxAnswer bounds what an agent may make us read: far more than a full node's metrics.
	maxAnswer = 64 << 20
)

// scrape reads a node's agent.
func (m *Meter) scrape(ctx context.Context, node string) (*reading, error) {
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(node, agentPort), Path: "/metrics/resource"}
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the agent of node %s: %w", node, err)
	}
	rq.Header.Set("Accept", "text/plain;version=0.0.4")
	rq.Header.Set("Accept-Encoding", "identity") // packing and unpacking costs both sides more than the wire does
	resp, err := m.c.Agents.RoundTrip(rq)
	if err != nil {
		return nil, fmt.Errorf("ask the agent of node %s: %w", node, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or given up
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // only decorates the error
		return nil, fmt.Errorf("the agent of node %s answers %s: %s", node, resp.Status, text)
	}
	r, err := parse(io.LimitReader(resp.Body, maxAnswer), m.c.Clock.Now())
	if err != nil {
		return nil, fmt.Errorf("metrics of node %s: %w", node, err)
	}
	return r, nil
}

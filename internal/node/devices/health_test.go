package devices

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	healthapi "k8s.io/kubelet/pkg/apis/dra-health/v1"
	clocktesting "k8s.io/utils/clock/testing"
)

func said(pool, name string, state healthapi.HealthStatus, seconds int64, message string) *healthapi.DeviceHealth {
	return &healthapi.DeviceHealth{Device: &healthapi.DeviceIdentifier{PoolName: pool, DeviceName: name}, Health: state, HealthCheckTimeoutSeconds: seconds, Message: message}
}

// TestHealthOverTime: a driver's word holds for its time, and only what is new is told.
func TestHealthOverTime(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(1e9, 0))
	news := 0
	h := newHealth(clock, func() { news++ })
	a, b := deviceID{"d", "p", "a"}, deviceID{"d", "p", "b"}
	// is checks what is said of a device: its health, its message, and how many seconds that holds (0: until a new report).
	is := func(when string, id deviceID, want string, seconds int) {
		t.Helper()
		got, until := h.of(id)
		text := string(got.Health)
		if got.Message != nil {
			text += " " + *got.Message
		}
		left := 0
		if !until.IsZero() {
			left = int(until.Sub(clock.Now()) / time.Second)
		}
		if text != want || left != seconds || string(got.ResourceID) != "d/p/"+id.name {
			t.Errorf("%s: %s is %q for %d s, want %q for %d s", when, got.ResourceID, text, left, want, seconds)
		}
	}
	told := func(when string, want int) {
		t.Helper()
		if news != want {
			t.Errorf("%s: told %d times, want %d", when, news, want)
		}
	}
	const healthy, ill, unsure = healthapi.HealthStatus_HEALTHY, healthapi.HealthStatus_UNHEALTHY, healthapi.HealthStatus_UNKNOWN

	is("at first", a, "", 30)
	h.take("d", []*healthapi.DeviceHealth{said("p", "a", healthy, 0, ""), said("p", "b", ill, 5, "too hot")})
	is("reported", a, "Healthy", 30)
	is("reported", b, "Unhealthy too hot", 5)
	is("of another driver", deviceID{"d", "p", "c"}, "", 30)
	told("reported", 1)

	clock.Step(4 * time.Second)
	h.take("d", []*healthapi.DeviceHealth{said("p", "b", ill, 5, "too hot")})
	told("said again", 1)
	is("left out", a, "Healthy", 26)
	is("said again", b, "Unhealthy too hot", 5)
	h.take("d", []*healthapi.DeviceHealth{said("p", "b", ill, 5, "on fire")})
	told("a new message", 2)

	clock.Step(26 * time.Second)
	is("not heard of for its time", a, "Unknown", 0)
	is("not heard of for its time", b, "Unknown", 0)
	is("never heard of", deviceID{"d", "p", "c"}, "Unknown", 0)
	told("the time runs out", 2)

	h.take("d", []*healthapi.DeviceHealth{said("p", "a", healthy, -1, "")})
	is("heard of again", a, "Healthy", 30)
	told("heard of again", 3)
	if len(h.reports) != 1 {
		t.Errorf("%d reports are kept, those that ran out among them", len(h.reports))
	}
	h.take("d", []*healthapi.DeviceHealth{said("p", "a", unsure, 1<<62, ""), nil})
	is("the driver does not know, for ages", a, "Unknown", 365*24*3600)
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{"": 0, "short": 5, strings.Repeat("x", 1024): 1024, strings.Repeat("x", 1025): 1024, strings.Repeat("x", 1020) + strings.Repeat("é", 9): 1023} {
		got := shorten(in)
		if len(got) != want || !utf8.ValidString(got) || len(in) > 1024 && !strings.HasSuffix(got, "...") || len(in) <= 1024 && got != in {
			t.Errorf("%d bytes become %d: %q", len(in), len(got), got)
		}
	}
}

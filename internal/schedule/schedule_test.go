package schedule

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
	for _, tc := range []struct {
		text, zone string
		want       time.Time
	}{
		{"*/5 * * * *", "UTC", time.Date(2026, 3, 29, 0, 35, 0, 0, time.UTC)},
		{"@hourly", "UTC", time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)},
		{"30 3 * * *", "Europe/Berlin", time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)}, // clocks go forward at 01:00 UTC
		{"0 0 31 2 *", "UTC", time.Time{}},
	} {
		zone, err := Zone(tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(tc.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Next(start.In(zone)); !got.Equal(tc.want) {
			t.Errorf("%s in %s: %s, want %s", tc.text, tc.zone, got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"* * * * *", "TZ=", "TZ=x", "CRON_TZ=UTC * * * * *", "@every 1s", "@every", "60 * * * *", "*/0 * * * *"} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = Parse(text)
	})
}

// Package schedule reads the schedules and time zones of CronJobs, the same way for the server that accepts them and the
// controller that follows them.
package schedule

import (
	"errors"
	"strings"
	"time"
	_ "time/tzdata" // a zone means the same on a machine without a data base of them

	"github.com/robfig/cron/v3"
)

// Schedule is a series of points in time.
type Schedule interface {
	// Next returns the first point after t, or the zero time if there is none in the next five years.
	Next(t time.Time) time.Time
}

// Parse reads the five fields of a schedule, a macro such as @daily, or "@every 1h", with or without a TZ= prefix.
func Parse(text string) (Schedule, error) {
	if (strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=")) && !strings.Contains(text, " ") {
		return nil, errors.New("a time zone must be followed by a schedule") // the parser panics
	}
	return cron.ParseStandard(text)
}

// Zone returns the time zone of that name in the IANA data base.
func Zone(name string) (*time.Location, error) { return time.LoadLocation(name) }

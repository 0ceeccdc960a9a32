// Package show formats what tables tell people: columns, ages, and the descriptions of columns. The words and formats are
// those that kubectl's users and scripts know.
package show

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// None stands where a cell has nothing to show.
const None = "<none>"

// Unknown stands where a value cannot be told.
const Unknown = "<unknown>"

// Column is one column that is always shown.
func Column(name, kind, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: kind, Description: description}
}

// Wide is one column that only -o wide shows.
func Wide(name, kind, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: kind, Priority: 1, Description: description}
}

// Name is the first column of every table.
func Name() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
}

// AgeColumn is the column that Age fills.
func AgeColumn() metav1.TableColumnDefinition {
	return Column("Age", "string", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"])
}

// Age says how long ago t was.
func Age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// MicroAge says how long ago t was.
func MicroAge(t metav1.MicroTime, now time.Time) string { return Age(metav1.NewTime(t.Time), now) }

// Selector shows a label selector in query form.
func Selector(s *metav1.LabelSelector) string { return metav1.FormatLabelSelector(s) }

// Labels shows a label map as sorted pairs.
func Labels(m map[string]string) string {
	if len(m) == 0 {
		return None
	}
	pairs := make([]string, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// AccessModes shows the ways in which a volume can be mounted, each once, shortened, in a fixed order.
func AccessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, m := range []struct {
		mode  corev1.PersistentVolumeAccessMode
		short string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	} {
		if slices.Contains(modes, m.mode) {
			short = append(short, m.short)
		}
	}
	return strings.Join(short, ",")
}

// List joins items, or says there are none.
func List(items []string) string {
	if len(items) == 0 {
		return None
	}
	return strings.Join(items, ",")
}

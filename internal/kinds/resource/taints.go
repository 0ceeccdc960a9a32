package resource

import (
	"slices"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// date says of a taint that does not when it was added.
func date(t *resourcev1.DeviceTaint, now time.Time) {
	if t.TimeAdded == nil {
		t.TimeAdded = &metav1.Time{Time: now.UTC().Truncate(time.Second)}
	}
}

// keepTaintTimes has the taints of a slice that were there before keep their times: drivers do not send them back.
func keepTaintTimes(now, was *resourcev1.ResourceSliceSpec) {
	for i := range now.Devices {
		d := &now.Devices[i]
		at := slices.IndexFunc(was.Devices, func(o resourcev1.Device) bool { return o.Name == d.Name })
		if at < 0 {
			continue
		}
		for j := range d.Taints {
			t := &d.Taints[j]
			before := slices.IndexFunc(was.Devices[at].Taints, func(o resourcev1.DeviceTaint) bool {
				return o.Key == t.Key && o.Value == t.Value && o.Effect == t.Effect
			})
			if t.TimeAdded == nil && before >= 0 {
				t.TimeAdded = was.Devices[at].Taints[before].TimeAdded
			}
		}
	}
}

// keepTaintTime has the taint of a rule keep its time as long as it has the same effect. With another it is dated anew, unless the
// client gives another time itself.
func keepTaintTime(now, was *resourcev1.DeviceTaint) {
	switch {
	case now.Effect == was.Effect && now.TimeAdded == nil:
		now.TimeAdded = was.TimeAdded
	case now.Effect != was.Effect && now.TimeAdded.Equal(was.TimeAdded):
		now.TimeAdded = nil
	}
}

package devices

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// The twin is the slow, obvious allocator: it tries every combination of alternatives, and of devices for them, and looks at
// each as a whole.

// want is an ask of the twin, in the terms in which random situations are made.
type want struct {
	claim  int
	name   string
	kind   string // "": any
	count  int    // 0: all
	admin  bool
	bears  bool // tolerates taints
	memory int64
}

// twinDevice is a device in the same terms.
type twinDevice struct {
	kind, side     string
	tainted, share bool
	memory, slots  int64
	users, used    int64 // by claims that were there before
}

type twinCase struct {
	devices []twinDevice
	slots   int64
	wants   [][]want // by request, the alternatives
	claims  []*resourcev1.ResourceClaim
}

const side = driver + "/side"

// randomCase is small enough for the twin, and rich enough that everything gets in everything's way.
func randomCase(r *rand.Rand) *twinCase {
	c := &twinCase{slots: int64(2 + r.IntN(5))}
	for range 2 + r.IntN(3) {
		d := twinDevice{kind: []string{"a", "b"}[r.IntN(2)], side: []string{"l", "r", ""}[r.IntN(3)], tainted: r.IntN(5) == 0, share: r.IntN(3) == 0, memory: 10, slots: int64(r.IntN(3))}
		if r.IntN(4) == 0 {
			d.users = 1
			if d.share {
				d.used = int64(1 + r.IntN(10))
			}
		}
		c.devices = append(c.devices, d)
	}
	for i := range 1 + r.IntN(2) {
		c.addClaim(r, i)
	}
	return c
}

func (c *twinCase) addClaim(r *rand.Rand, index int) {
	claim := testClaim()
	for j := range 1 + r.IntN(2) {
		name := fmt.Sprintf("r%d", j)
		var ways []want
		var requests []resourcev1.DeviceRequest
		for range 1 + r.IntN(2) {
			w := want{claim: index, name: name, kind: []string{"", "a", "b"}[r.IntN(3)], count: r.IntN(3), admin: r.IntN(6) == 0, bears: r.IntN(2) == 0, memory: int64(r.IntN(3) * 4)}
			ways, requests = append(ways, w), append(requests, w.request())
		}
		if len(ways) > 1 {
			for k := range ways {
				ways[k].name, ways[k].admin = fmt.Sprintf("%s/s%d", name, k), false
			}
			claim.Spec.Devices.Requests = append(claim.Spec.Devices.Requests, first(name, requests...))
		} else {
			requests[0].Name = name
			claim.Spec.Devices.Requests = append(claim.Spec.Devices.Requests, requests[0])
		}
		c.wants = append(c.wants, ways)
	}
	only := [][]string{nil, {"r0"}, {"r0", "r1"}, {"r1/s0"}}[r.IntN(4)]
	switch r.IntN(4) {
	case 0:
		constrained(claim, same(side, only...))
	case 1:
		constrained(claim, distinct(side, only...))
	}
	c.claims = append(c.claims, claim)
}

func (w *want) request() resourcev1.DeviceRequest {
	var changes []func(*resourcev1.ExactDeviceRequest)
	if w.kind != "" {
		changes = append(changes, where(fmt.Sprintf(`device.attributes["gpu.x.io"].kind == %q`, w.kind)))
	}
	if w.count == 0 {
		changes = append(changes, all)
	} else {
		changes = append(changes, count(int64(w.count)))
	}
	if w.admin {
		changes = append(changes, admin)
	}
	if w.bears {
		changes = append(changes, tolerating(resourcev1.DeviceToleration{Operator: resourcev1.DeviceTolerationOpExists}))
	}
	if w.memory > 0 {
		changes = append(changes, atLeast(fmt.Sprint(w.memory)))
	}
	return exactly("", changes...)
}

// situation says the same to the allocator.
func (c *twinCase) situation() situation {
	s := testSlice("p")
	s.Spec.Pool.ResourceSliceCount = 2
	sets := testSlice("sets")
	sets.Spec.Pool = s.Spec.Pool
	sets.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "card", Counters: map[string]resourcev1.Counter{"slots": {Value: *resource.NewQuantity(c.slots, resource.DecimalSI)}}}}
	var held []*resourcev1.ResourceClaim
	for i, d := range c.devices {
		dev := testDevice(fmt.Sprintf("d%d", i), attribute("kind", d.kind), memory(fmt.Sprint(d.memory)))
		if d.side != "" {
			attribute("side", d.side)(&dev)
		}
		if d.tainted {
			tainted(resourcev1.DeviceTaintEffectNoSchedule)(&dev)
		}
		if d.share {
			shared(&dev)
		}
		if d.slots > 0 {
			counts("card", "slots", fmt.Sprint(d.slots))(&dev)
		}
		s.Spec.Devices = append(s.Spec.Devices, dev)
		if d.users > 0 {
			text := "p/" + dev.Name
			if d.share {
				text += fmt.Sprintf("=%d", d.used)
			}
			held = append(held, holding(text))
		}
	}
	return situation{slices: published(s, sets), held: held, claims: c.claims}
}

// twinPick is a device for a want.
type twinPick struct {
	want   *want
	device int
}

// solve returns the alternatives of the best assignment that is right as a whole, and whether there is one.
func (c *twinCase) solve(request int, sofar []twinPick) (string, bool) {
	if request == len(c.wants) {
		return names(sofar), c.right(sofar)
	}
	for i := range c.wants[request] {
		w := &c.wants[request][i]
		for _, set := range c.sets(w) {
			more := slices.Clone(sofar)
			for _, d := range set {
				more = append(more, twinPick{w, d})
			}
			if text, ok := c.solve(request+1, more); ok {
				return text, true
			}
		}
	}
	return "", false
}

// sets are the devices with which w could be served, whatever else is going on.
func (c *twinCase) sets(w *want) [][]int {
	var fit []int
	for i, d := range c.devices {
		if w.kind == "" || w.kind == d.kind {
			fit = append(fit, i)
		}
	}
	if w.count == 0 {
		if len(fit) == 0 {
			return nil
		}
		return [][]int{fit}
	}
	out := [][]int{{}}
	for range w.count {
		var longer [][]int
		for _, set := range out {
			for _, d := range fit {
				last := -1
				if len(set) > 0 {
					last = set[len(set)-1]
				}
				if d > last || d == last && c.devices[d].share && !w.admin {
					longer = append(longer, append(slices.Clone(set), d))
				}
			}
		}
		out = longer
	}
	return out
}

// right looks at all picks together.
func (c *twinCase) right(picks []twinPick) bool {
	users, used := make([]int64, len(c.devices)), make([]int64, len(c.devices))
	for i, d := range c.devices {
		users[i], used[i] = d.users, d.used
	}
	for i, p := range picks {
		d := &c.devices[p.device]
		if d.tainted && !p.want.bears || c.named(picks[:i], p) {
			return false
		}
		if p.want.admin {
			continue
		}
		users[p.device]++
		switch amount := p.want.memory; {
		case amount == 0:
			used[p.device] += d.memory
		default:
			used[p.device] += amount
		}
	}
	slots, touched := int64(0), false
	for i, d := range c.devices {
		if users[i] > 0 {
			slots += d.slots
		}
		if users[i] == d.users {
			continue // nothing new
		}
		touched = touched || d.slots > 0 && d.users == 0
		if !d.share && users[i] > 1 || d.share && used[i] > d.memory {
			return false
		}
	}
	return (!touched || slots <= c.slots) && c.agree(picks)
}

// named reports whether p's claim has named its device before, other than as a share.
func (c *twinCase) named(before []twinPick, p twinPick) bool {
	return slices.ContainsFunc(before, func(q twinPick) bool {
		return q.want.claim == p.want.claim && q.device == p.device && (p.want.admin || q.want.admin || !c.devices[p.device].share)
	})
}

// agree checks each pair of picks that a constraint binds.
func (c *twinCase) agree(picks []twinPick) bool {
	for i, p := range picks {
		for _, constraint := range c.claims[p.want.claim].Spec.Devices.Constraints {
			if !bound(constraint, p.want.name) {
				continue
			}
			if c.devices[p.device].side == "" {
				return false
			}
			for _, q := range picks[:i] {
				if q.want.claim != p.want.claim || !bound(constraint, q.want.name) {
					continue
				}
				if (c.devices[p.device].side == c.devices[q.device].side) != (constraint.MatchAttribute != nil) {
					return false
				}
			}
		}
	}
	return true
}

func bound(c resourcev1.DeviceConstraint, name string) bool {
	base, _, _ := strings.Cut(name, "/")
	return c.Requests == nil || slices.Contains(c.Requests, name) || slices.Contains(c.Requests, base)
}

// names are the requests and alternatives that were served, in order.
func names(picks []twinPick) string {
	var out []string
	for _, p := range picks {
		out = append(out, fmt.Sprintf("%d.%s", p.want.claim, p.want.name))
	}
	return strings.Join(out, " ")
}

// picksOf reads an allocation back.
func (c *twinCase) picksOf(t *testing.T, out []*resourcev1.AllocationResult) []twinPick {
	var picks []twinPick
	for i, a := range out {
		for _, r := range a.Devices.Results {
			var d int
			if _, err := fmt.Sscanf(r.Device, "d%d", &d); err != nil {
				t.Fatal(err)
			}
			for _, ways := range c.wants {
				for k := range ways {
					if w := &ways[k]; w.claim == i && w.name == r.Request {
						if w.admin != ptr.Deref(r.AdminAccess, false) {
							t.Errorf("%s: admin access: %v", r.Request, r.AdminAccess)
						}
						picks = append(picks, twinPick{w, d})
					}
				}
			}
		}
	}
	return picks
}

// TestAllocatorEqualsTwin: what the search finds is right as a whole, it finds something if there is anything, and of the
// alternatives the best.
func TestAllocatorEqualsTwin(t *testing.T) {
	t.Parallel()
	found := 0
	const cases = 3000
	for seed := range uint64(cases) {
		c := randomCase(rand.New(rand.NewPCG(seed, 7)))
		s := c.situation()
		out, err := s.allocate()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want, possible := c.solve(0, nil)
		if possible != (out != nil) {
			t.Fatalf("seed %d: got %s, the twin says %t %s\n%+v", seed, told(out, err), possible, want, c)
		}
		if out == nil {
			continue
		}
		found++
		picks := c.picksOf(t, out)
		if !c.right(picks) {
			t.Fatalf("seed %d: %s is wrong\n%+v", seed, told(out, err), c)
		}
		if got := names(picks); got != want {
			t.Fatalf("seed %d: got %s, the twin prefers %s\n%+v", seed, got, want, c)
		}
	}
	if found < cases/10 || found > cases*9/10 {
		t.Errorf("%d of %d cases can be served: the cases say little", found, cases)
	}
}

package devices

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	healthapi "k8s.io/kubelet/pkg/apis/dra-health/v1"
	healthv1alpha1 "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
	"k8s.io/utils/clock"
)

const (
	// healthTimeout is how long a driver's word on a device holds unless the driver says otherwise.
	healthTimeout = 30 * time.Second

	// longestTimeout keeps what drivers say from overflowing.
	longestTimeout = 365 * 24 * time.Hour

	cut = "..." // ends a message that was too long
)

// deviceID names a device in the cluster.
type deviceID struct{ driver, pool, name string }

func (d deviceID) resource() corev1.ResourceID {
	return corev1.ResourceID(d.driver + "/" + d.pool + "/" + d.name)
}

// report is a driver's last word on a device. It holds until a time.
type report struct {
	state   corev1.ResourceHealthStatus
	message string
	until   time.Time
}

// health is what drivers say of the health of their devices. Nothing ticks in it: who reads it is told when to read it again.
type health struct {
	clock   clock.Clock
	changed func() // called after a device became well or ill; a report that has run out is not told of

	mu      sync.Mutex
	begun   time.Time // nobody is expected to have reported before begun + healthTimeout
	reports map[deviceID]report
}

func newHealth(c clock.Clock, changed func()) *health {
	return &health{clock: c, changed: changed, begun: c.Now(), reports: map[deviceID]report{}}
}

// of returns what is known of a device, and until when. An empty state: its driver has not reported since this program began, but
// it is too early to call that unknown.
func (h *health) of(id deviceID) (out corev1.ResourceHealth, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out.ResourceID = id.resource()
	now := h.clock.Now()
	r, ok := h.reports[id]
	switch first := h.begun.Add(healthTimeout); {
	case ok && now.Before(r.until):
		out.Health, until = r.state, r.until
		if r.message != "" {
			out.Message = &r.message
		}
	case !ok && now.Before(first):
		until = first
	default:
		out.Health = corev1.ResourceHealthStatusUnknown
	}
	return out, until
}

// take notes what a driver reports. A device that it leaves out keeps what was reported of it.
func (h *health) take(driver string, list []*healthapi.DeviceHealth) {
	h.mu.Lock()
	now, news := h.clock.Now(), false
	maps.DeleteFunc(h.reports, func(_ deviceID, r report) bool { return !now.Before(r.until) }) // its device may be gone
	for _, d := range list {
		id := deviceID{driver, d.GetDevice().GetPoolName(), d.GetDevice().GetDeviceName()}
		next := report{stateOf(d.GetHealth()), shorten(d.GetMessage()), now.Add(holds(d.GetHealthCheckTimeoutSeconds()))}
		last, ok := h.reports[id]
		news = news || !ok || last.state != next.state || last.message != next.message
		h.reports[id] = next
	}
	h.mu.Unlock()
	if news {
		h.changed()
	}
}

func stateOf(s healthapi.HealthStatus) corev1.ResourceHealthStatus {
	switch s {
	case healthapi.HealthStatus_HEALTHY:
		return corev1.ResourceHealthStatusHealthy
	case healthapi.HealthStatus_UNHEALTHY:
		return corev1.ResourceHealthStatusUnhealthy
	}
	return corev1.ResourceHealthStatusUnknown
}

func holds(seconds int64) time.Duration {
	switch {
	case seconds <= 0:
		return healthTimeout
	case seconds > int64(longestTimeout/time.Second):
		return longestTimeout
	}
	return time.Duration(seconds) * time.Second
}

// shorten keeps a message within what the API takes.
func shorten(message string) string {
	if len(message) <= corev1.ResourceHealthMessageMaxLength {
		return message
	}
	end := corev1.ResourceHealthMessageMaxLength - len(cut)
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + cut
}

// healthClient is how a driver's word on its devices is heard, nil if it gives none. It is chosen by the services that it named.
func healthClient(conn *grpc.ClientConn, services []string) healthapi.DRAResourceHealthClient {
	switch {
	case slices.Contains(services, healthapi.DRAResourceHealthService):
		return healthapi.NewDRAResourceHealthClient(conn)
	case slices.Contains(services, healthv1alpha1.DRAResourceHealthService):
		return healthapi.V1Alpha1ClientWrapper{Client: healthv1alpha1.NewDRAResourceHealthClient(conn)}
	}
	return nil
}

// listen takes what a driver reports until ctx ends or the driver says that it reports nothing.
func (r *Registry) listen(ctx context.Context, d *driver) {
	for pause := firstRetry; d.health != nil; pause = min(2*pause, lastRetry) {
		heard, err := r.hear(ctx, d)
		if ctx.Err() != nil || status.Code(err) == codes.Unimplemented {
			return
		}
		if heard {
			pause = firstRetry
		}
		r.log.Debug("device driver stopped reporting the health of its devices", "driver", d.name, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-r.clock.After(pause):
		}
	}
}

// hear takes the reports of one stream, and tells whether there were any.
func (r *Registry) hear(ctx context.Context, d *driver) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.health.NodeWatchResources(ctx, &healthapi.NodeWatchResourcesRequest{})
	if err != nil {
		return false, err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		r.health.take(d.name, answer.GetDevices())
	}
}

// Health is what a pod's status is to say of the devices that its containers got from claims, by container, and until when that
// holds. An entry without health is of a device whose driver has yet to report after this program began.
func (h *Host) Health(pod *corev1.Pod) (out map[string][]corev1.ResourceStatus, until time.Time) {
	used := h.usedBy(pod.UID)
	if len(used) == 0 {
		return nil, time.Time{}
	}
	out = map[string][]corev1.ResourceStatus{}
	for _, c := range containersOf(pod) {
		for _, part := range partsOf(pod, c) {
			at := slices.IndexFunc(used, func(s *claimState) bool { return s.Namespace == pod.Namespace && s.Name == part.claim })
			if at < 0 {
				continue
			}
			one := corev1.ResourceStatus{Name: part.name}
			for _, id := range used[at].devices(part.request) {
				said, holds := h.registry.health.of(id)
				one.Resources = append(one.Resources, said)
				if !holds.IsZero() && (until.IsZero() || holds.Before(until)) {
					until = holds
				}
			}
			if len(one.Resources) > 0 {
				out[c.Name] = append(out[c.Name], one)
			}
		}
	}
	return out, until
}

func containersOf(pod *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			out = append(out, &list[i])
		}
	}
	return out
}

// part is what a container uses of a claim, and what its status calls that.
type part struct {
	name           corev1.ResourceName
	claim, request string // request is empty for all of them
}

// partsOf are the parts of claims that a container uses, by its own words or through an extended resource.
func partsOf(pod *corev1.Pod, c *corev1.Container) []part {
	var out []part
	for _, want := range c.Resources.Claims {
		at := slices.IndexFunc(pod.Spec.ResourceClaims, func(ref corev1.PodResourceClaim) bool { return ref.Name == want.Name })
		if at < 0 {
			continue
		}
		if name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[at]); err == nil && name != nil {
			out = append(out, part{called(want.Name, want.Request), *name, want.Request})
		}
	}
	if x := pod.Status.ExtendedResourceClaimStatus; x != nil {
		for _, m := range x.RequestMappings {
			if m.ContainerName == c.Name {
				out = append(out, part{called(x.ResourceClaimName, m.RequestName), x.ResourceClaimName, m.RequestName})
			}
		}
	}
	return out
}

func called(claim, request string) corev1.ResourceName {
	return corev1.ResourceName(strings.TrimSuffix(fmt.Sprintf("claim:%s/%s", claim, request), "/"))
}

// devices are those of a request, of all requests if it is empty, each once.
func (s *claimState) devices(request string) []deviceID {
	var out []deviceID
	s.each(request, func(driver string, d device) {
		if id := (deviceID{driver, d.Pool, d.Name}); d.Name != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	})
	return out
}

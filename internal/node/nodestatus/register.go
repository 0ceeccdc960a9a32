package nodestatus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-helpers/apimachinery/lease"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"canopus/internal/node/cri"
)

const (
	checkPeriod  = 10 * time.Second // how often the machine is looked at
	unreadyCheck = 250 * time.Millisecond
	writePeriod  = 5 * time.Minute // how often the status is written though nothing changed
	retryPeriod  = time.Second
	leaseSeconds = 40
	leaseRenewal = 10 * time.Second
	maxImages    = 50
)

// Config is what a Reporter needs. All of it is required but Labels, Annotations, Taints and Recorder.
type Config struct {
	Client      kubernetes.Interface
	NodeName    string
	IPs         []string
	Labels      map[string]string
	Annotations map[string]string
	Taints      []corev1.Taint
	Machine     Machine
	Version     string // of Canopus, as /version shows it
	Port        int32  // of the agent's server
	Root        string // a path on the disk that pods use
	Runtime     *cri.Client
	Recorder    record.EventRecorder
	Clock       clock.Clock
	Log         *slog.Logger
}

// Reporter keeps the Node object and its lease.
type Reporter struct {
	cfg   Config
	ready chan struct{}
	once  sync.Once

	// Owned by Run.
	node           *corev1.Node // as the API is known to have it
	looked         time.Time    // when the API was last asked for it
	written        time.Time
	runtimeVersion string
}

// New checks the configuration.
func New(cfg Config) (*Reporter, error) {
	if cfg.Client == nil || cfg.NodeName == "" || len(cfg.IPs) == 0 || cfg.Runtime == nil || cfg.Clock == nil || cfg.Log == nil || cfg.Version == "" {
		return nil, fmt.Errorf("node status: Client, NodeName, IPs, Runtime, Version, Clock and Log are required")
	}
	return &Reporter{cfg: cfg, ready: make(chan struct{})}, nil
}

// Ready is closed after the API was told that the node is ready.
func (r *Reporter) Ready() <-chan struct{} { return r.ready }

// Run registers the node and reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.register(ctx)
		if err == nil {
			break
		}
		r.cfg.Log.Warn("registering the node", "node", r.cfg.NodeName, "error", err)
		r.pause(ctx, retryPeriod)
	}
	if r.node == nil {
		return nil
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: r.node.Name, UID: r.node.UID}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		r.renewLease(ctx, owner)
	}()
	defer wg.Wait()
	for ctx.Err() == nil {
		ready, err := r.report(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			r.cfg.Log.Warn("reporting the node's status", "node", r.cfg.NodeName, "error", err)
			r.pause(ctx, retryPeriod)
		case !ready:
			r.pause(ctx, unreadyCheck)
		default:
			r.once.Do(func() { close(r.ready) })
			r.pause(ctx, checkPeriod)
		}
	}
	return nil
}

func (r *Reporter) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-r.cfg.Clock.After(d):
	}
}

// renewLease tells the control plane that the node is alive.
func (r *Reporter) renewLease(ctx context.Context, owner metav1.OwnerReference) {
	c := lease.NewController(r.cfg.Clock, r.cfg.Client, r.cfg.NodeName, leaseSeconds, nil, leaseRenewal, r.cfg.NodeName,
		corev1.NamespaceNodeLease, func(l *coordinationv1.Lease) error {
			l.OwnerReferences = []metav1.OwnerReference{owner}
			return nil
		})
	c.Run(ctx)
}

// labels returns those that every node carries and those of the configuration.
func (r *Reporter) labels() map[string]string {
	out := map[string]string{
		corev1.LabelHostname:      r.cfg.NodeName,
		corev1.LabelOSStable:      r.cfg.Machine.Info.OperatingSystem,
		corev1.LabelArchStable:    r.cfg.Machine.Info.Architecture,
		"beta.kubernetes.io/os":   r.cfg.Machine.Info.OperatingSystem,
		"beta.kubernetes.io/arch": r.cfg.Machine.Info.Architecture,
	}
	maps.Copy(out, r.cfg.Labels)
	return out
}

// annotations returns those that every node carries and those of the configuration.
func (r *Reporter) annotations() map[string]string {
	out := map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
	maps.Copy(out, r.cfg.Annotations)
	return out
}

// register creates the Node, or takes over the one that is there.
func (r *Reporter) register(ctx context.Context) error {
	r.looked = r.cfg.Clock.Now()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: r.cfg.NodeName, Labels: r.labels(), Annotations: r.annotations()},
		Spec:       corev1.NodeSpec{Taints: r.cfg.Taints},
	}
	node.Status = r.status(node, Health{Message: "container runtime status check may not have completed yet"}, nil)
	got, err := r.cfg.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err == nil {
		r.node = got
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create node: %w", err)
	}
	if r.node, err = r.cfg.Client.CoreV1().Nodes().Get(ctx, r.cfg.NodeName, metav1.GetOptions{}); err != nil {
		return fmt.Errorf("get node: %w", err)
	}
	want := r.node.DeepCopy()
	if want.Labels == nil {
		want.Labels = map[string]string{}
	}
	maps.Copy(want.Labels, r.labels())
	if want.Annotations == nil {
		want.Annotations = map[string]string{}
	}
	maps.Copy(want.Annotations, r.annotations())
	if apiequality.Semantic.DeepEqual(want, r.node) {
		return nil
	}
	body, err := patch(r.node, want)
	if err != nil {
		return err
	}
	got, err = r.cfg.Client.CoreV1().Nodes().Patch(ctx, r.cfg.NodeName, types.StrategicMergePatchType, body, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("label node: %w", err)
	}
	r.node = got
	return nil
}

// refresh looks what the API has. Whoever took this node for lost has written so: it must not stay until something else changes. An
// API that does not answer has no news.
func (r *Reporter) refresh(ctx context.Context) error {
	if now := r.cfg.Clock.Now(); now.Sub(r.looked) < checkPeriod {
		return nil
	}
	got, err := r.cfg.Client.CoreV1().Nodes().Get(ctx, r.cfg.NodeName, metav1.GetOptions{ResourceVersion: "0"}) // from memory
	switch {
	case apierrors.IsNotFound(err):
		return r.register(ctx)
	case err != nil:
		r.cfg.Log.Debug("what the API has of the node is not known now", "node", r.cfg.NodeName, "error", err)
		return nil
	}
	r.looked = r.cfg.Clock.Now()
	if c, err := resourceversion.CompareResourceVersion(got.ResourceVersion, r.node.ResourceVersion); got.UID != r.node.UID || err == nil && c > 0 {
		r.node = got
	}
	return nil
}

// report writes the status if it is not what the API has or was written long ago, and says whether the node is ready.
func (r *Reporter) report(ctx context.Context) (ready bool, err error) {
	if err := r.refresh(ctx); err != nil {
		return false, err
	}
	h, err := measure(r.cfg.Root)
	if err != nil {
		return false, err
	}
	h.RuntimeReady, h.NetworkReady, h.Message, err = r.cfg.Runtime.Conditions(ctx)
	if err != nil {
		h.Message = err.Error()
	}
	ready = h.RuntimeReady && h.NetworkReady
	want := r.node.DeepCopy()
	want.Status = r.status(r.node, h, r.images(ctx, ready))
	now := r.cfg.Clock.Now()
	if sameStatus(&r.node.Status, &want.Status) && now.Sub(r.written) < writePeriod {
		return ready, nil
	}
	body, err := patch(r.node, want)
	if err != nil {
		return ready, err
	}
	was := isReady(r.node.Status.Conditions)
	got, err := r.cfg.Client.CoreV1().Nodes().Patch(ctx, r.cfg.NodeName, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return ready, r.register(ctx)
	}
	if err != nil {
		return ready, fmt.Errorf("patch node status: %w", err)
	}
	r.node, r.written = got, now
	if ready && !was && r.cfg.Recorder != nil {
		ref := &corev1.ObjectReference{Kind: "Node", Name: r.cfg.NodeName, UID: types.UID(r.cfg.NodeName)}
		r.cfg.Recorder.Event(ref, corev1.EventTypeNormal, "NodeReady", fmt.Sprintf("Node %s status is now: NodeReady", r.cfg.NodeName))
	}
	return ready, nil
}

func isReady(cs []corev1.NodeCondition) bool {
	for _, c := range cs {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// status returns the node's status; conditions of others stay.
func (r *Reporter) status(node *corev1.Node, h Health, images []corev1.ContainerImage) corev1.NodeStatus {
	out := *node.Status.DeepCopy()
	out.Capacity = overlay(node.Status.Capacity, r.cfg.Machine.Capacity)
	out.Allocatable = overlay(node.Status.Allocatable, r.cfg.Machine.Allocatable)
	out.Addresses = nil
	for _, ip := range r.cfg.IPs {
		if net.ParseIP(ip) != nil {
			out.Addresses = append(out.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
		}
	}
	out.Addresses = append(out.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: r.cfg.NodeName})
	out.DaemonEndpoints.KubeletEndpoint.Port = r.cfg.Port
	if r.runtimeVersion == "" {
		r.runtimeVersion = out.NodeInfo.ContainerRuntimeVersion
	}
	out.NodeInfo = r.cfg.Machine.Info
	out.NodeInfo.KubeletVersion = r.cfg.Version
	out.NodeInfo.ContainerRuntimeVersion = r.runtimeVersion
	if images != nil {
		out.Images = images
	}
	own := Conditions(h, node.Status.Conditions, r.cfg.Clock.Now())
	kept := own
	for _, c := range node.Status.Conditions {
		foreign := true
		for _, o := range own {
			foreign = foreign && o.Type != c.Type
		}
		if foreign {
			kept = append(kept, c)
		}
	}
	out.Conditions = kept
	return out
}

// overlay is what the machine has, and what others have added to the Node: device vendors and administrators give nodes
// resources by patching its status. Huge pages are only the machine's.
func overlay(there, machine corev1.ResourceList) corev1.ResourceList {
	out := machine.DeepCopy()
	for name, q := range there {
		if _, ours := machine[name]; !ours && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			out[name] = q.DeepCopy()
		}
	}
	return out
}

// sameStatus compares without heartbeats.
func sameStatus(a, b *corev1.NodeStatus) bool {
	strip := func(in *corev1.NodeStatus) *corev1.NodeStatus {
		out := in.DeepCopy()
		for i := range out.Conditions {
			out.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		return out
	}
	return apiequality.Semantic.DeepEqual(strip(a), strip(b))
}

func patch(from, to *corev1.Node) ([]byte, error) {
	a, err := json.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	b, err := json.Marshal(to)
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	out, err := strategicpatch.CreateTwoWayMergePatch(a, b, corev1.Node{})
	if err != nil {
		return nil, fmt.Errorf("difference of nodes: %w", err)
	}
	return out, nil
}

// images returns the largest images, and notes the runtime's version on the way.
func (r *Reporter) images(ctx context.Context, ready bool) []corev1.ContainerImage {
	if !ready {
		return nil
	}
	if v, err := r.cfg.Runtime.Version(ctx, &runtimeapi.VersionRequest{}); err == nil {
		r.runtimeVersion = v.GetRuntimeName() + "://" + v.GetRuntimeVersion()
	}
	resp, err := r.cfg.Runtime.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil
	}
	return largest(resp.GetImages())
}

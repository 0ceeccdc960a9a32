package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
)

// DefaultPod fills in what a pod leaves out: all of a template's defaults, and those that only a pod gets, because a
// template that is read back must not change under a newer server.
func DefaultPod(pod *corev1.Pod) {
	spec := &pod.Spec
	Default(spec)
	if spec.EnableServiceLinks == nil {
		spec.EnableServiceLinks = ptr.To(corev1.DefaultEnableServiceLinks)
	}
	for i := range spec.InitContainers {
		requestLimits(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		requestLimits(&spec.Containers[i])
	}
	if spec.HostNetwork {
		hostPorts(spec.InitContainers)
		hostPorts(spec.Containers)
	}
	defaultPodResources(pod)
	// podIP and hostIP are the first of podIPs and hostIPs; old clients write only the one.
	status := &pod.Status
	if len(status.PodIPs) == 0 && status.PodIP != "" {
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	if len(status.PodIPs) > 0 && status.PodIP == "" {
		status.PodIP = status.PodIPs[0].IP
	}
	if len(status.HostIPs) == 0 && status.HostIP != "" {
		status.HostIPs = []corev1.HostIP{{IP: status.HostIP}}
	}
}

// Default fills in what a pod spec or a pod template leaves out.
func Default(spec *corev1.PodSpec) {
	if spec.DNSPolicy == "" {
		spec.DNSPolicy = corev1.DNSClusterFirst
	}
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	if spec.SecurityContext == nil {
		spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = ptr.To(int64(corev1.DefaultTerminationGracePeriodSeconds))
	}
	if spec.SchedulerName == "" {
		spec.SchedulerName = corev1.DefaultSchedulerName
	}
	// serviceAccount is the old name of serviceAccountName; both are shown.
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = spec.DeprecatedServiceAccount
	}
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for i := range spec.InitContainers {
		defaultContainer(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		defaultContainer(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c)
		spec.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
	roundUp(spec.Overhead)
	if spec.Resources != nil {
		roundUp(spec.Resources.Limits)
		roundUp(spec.Resources.Requests)
	}
}

func defaultContainer(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	if c.TerminationMessagePath == "" {
		c.TerminationMessagePath = corev1.TerminationMessagePathDefault
	}
	if c.TerminationMessagePolicy == "" {
		c.TerminationMessagePolicy = corev1.TerminationMessageReadFile
	}
	for i := range c.Ports {
		if c.Ports[i].Protocol == "" {
			c.Ports[i].Protocol = corev1.ProtocolTCP
		}
	}
	for i := range c.Env {
		defaultEnv(c.Env[i].ValueFrom)
	}
	roundUp(c.Resources.Limits)
	roundUp(c.Resources.Requests)
	defaultProbe(c.LivenessProbe)
	defaultProbe(c.ReadinessProbe)
	defaultProbe(c.StartupProbe)
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

func defaultEnv(from *corev1.EnvVarSource) {
	if from == nil {
		return
	}
	if from.FieldRef != nil && from.FieldRef.APIVersion == "" {
		from.FieldRef.APIVersion = "v1"
	}
	if from.FileKeyRef != nil && from.FileKeyRef.Optional == nil {
		from.FileKeyRef.Optional = ptr.To(false)
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	setIfZero(&p.TimeoutSeconds, 1)
	setIfZero(&p.PeriodSeconds, 10)
	setIfZero(&p.SuccessThreshold, 1)
	setIfZero(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil && p.GRPC.Service == nil {
		p.GRPC.Service = ptr.To("")
	}
}

func defaultHTTPGet(h *corev1.HTTPGetAction) {
	if h == nil {
		return
	}
	setIfZero(&h.Path, "/")
	setIfZero(&h.Scheme, corev1.URISchemeHTTP)
}

func setIfZero[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// pullPolicy follows the image's tag: what may move is pulled anew each time.
func pullPolicy(image string) corev1.PullPolicy {
	if imageTag(image) == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// imageTag returns the tag that an image reference names or implies; "" for a digest alone and for what is no reference.
func imageTag(image string) string {
	name, _, digest := strings.Cut(image, "@")
	if name == "" || strings.ContainsAny(name, " \t\n") {
		return ""
	}
	slash := strings.LastIndexByte(name, '/')
	last := name[slash+1:]
	repository, tag, tagged := strings.Cut(last, ":")
	if repository == "" || repository != strings.ToLower(repository) {
		return ""
	}
	switch {
	case tagged:
		return tag
	case digest:
		return ""
	default:
		return "latest"
	}
}

// roundUp keeps quantities to a precision of a thousandth.
func roundUp(list corev1.ResourceList) {
	for name, quantity := range list {
		if quantity.RoundUp(resource.Milli) {
			continue
		}
		list[name] = quantity
	}
}

// requestLimits requests what a container limits and does not request.
func requestLimits(c *corev1.Container) {
	for name, limit := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; ok {
			continue
		}
		if c.Resources.Requests == nil {
			c.Resources.Requests = corev1.ResourceList{}
		}
		c.Resources.Requests[name] = limit.DeepCopy()
	}
}

// hostPorts: on the host's network a container's port is the host's port.
func hostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			if p := &containers[i].Ports[j]; p.HostPort == 0 {
				p.HostPort = p.ContainerPort
			}
		}
	}
}

// defaultPodResources derives the pod's own requests from its containers' requests, or else from its own limits.
func defaultPodResources(pod *corev1.Pod) {
	own := pod.Spec.Resources
	if own == nil {
		return
	}
	options := resourcehelper.PodResourcesOptions{SkipPodLevelResources: true}
	for name, sum := range resourcehelper.AggregateContainerLimits(pod, options) {
		if _, set := own.Limits[name]; !set && strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			put(&own.Limits, name, sum)
		}
	}
	for name, sum := range resourcehelper.AggregateContainerRequests(pod, options) {
		if _, set := own.Requests[name]; !set && resourcehelper.IsSupportedPodLevelResource(name) {
			put(&own.Requests, name, sum)
		}
	}
	for name, limit := range own.Limits {
		if _, set := own.Requests[name]; !set && resourcehelper.IsSupportedPodLevelResource(name) {
			put(&own.Requests, name, limit)
		}
	}
}

func put(list *corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if *list == nil {
		*list = corev1.ResourceList{}
	}
	(*list)[name] = q.DeepCopy()
}

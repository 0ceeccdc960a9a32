package why

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
)

// deviceClaim is the resource claim behind an entry of a pod's spec: its name, whether it has one already, and whether it needs one.
func deviceClaim(p *corev1.Pod, c *corev1.PodResourceClaim) (name string, made, needed bool) {
	if c.ResourceClaimName != nil {
		return *c.ResourceClaimName, true, true
	}
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.Name == c.Name {
			return deref(s.ResourceClaimName, ""), true, s.ResourceClaimName != nil
		}
	}
	return "", false, true
}

// unmadeClaims explains the resource claims of a pod that are to be made from templates and are not.
func (f *Facts) unmadeClaims(p *corev1.Pod) []Finding {
	var out []Finding
	for i := range p.Spec.ResourceClaims {
		entry := &p.Spec.ResourceClaims[i]
		if _, made, needed := deviceClaim(p, entry); needed && !made {
			out = append(out, f.claimNotMade(p, entry))
		}
	}
	return out
}

// devicesOf explains the resource claims of a pod that are missing or cannot be allocated.
func (f *Facts) devicesOf(p *corev1.Pod) []Finding {
	out := f.unmadeClaims(p)
	for i := range p.Spec.ResourceClaims {
		name, made, needed := deviceClaim(p, &p.Spec.ResourceClaims[i])
		claim, looked := f.DeviceClaims[name]
		switch {
		case !needed || !made:
		case looked && claim == nil:
			x := Finding{Link: LinkDevice, Severity: Error, Reason: "ResourceClaimNotFound", Object: "resourceclaim/" + name, key: "device claim missing"}
			x.Message = fmt.Sprintf("the resource claim %s, which pod %s wants, does not exist", name, p.Name)
			x.Do = fmt.Sprintf("make ResourceClaim %s, or take it out of the pod", name)
			out = append(out, x)
		case claim != nil:
			_, found := f.explainDeviceClaim(claim)
			out = append(out, found...)
		}
	}
	return slices.DeleteFunc(out, func(x Finding) bool { return x.Severity == Note || x.Reason == "WaitForPod" })
}

// illDevices tells of devices in use whose driver says that they do not work. They come before what became of the containers.
func (f *Facts) illDevices(p *corev1.Pod) []Finding {
	var out []Finding
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		for _, claim := range c.AllocatedResourcesStatus {
			for _, d := range claim.Resources {
				if d.Health != corev1.ResourceHealthStatusUnhealthy {
					continue
				}
				x := f.about(p, LinkDevice, Warning)
				x.Reason, x.Container, x.key = string(d.Health), c.Name, "ill device of "+c.Name
				x.Message = fmt.Sprintf("device %s of container %s does not work, says its driver", d.ResourceID, c.Name)
				if said := deref(d.Message, ""); said != "" {
					x.Message += ": " + said
				}
				x.Do = "see to the device on node " + p.Spec.NodeName + "; to have another, delete the pod if something makes it anew"
				out = append(out, x)
			}
		}
	}
	return out
}

// claimNotMade explains that there is no claim from a template yet.
func (f *Facts) claimNotMade(p *corev1.Pod, entry *corev1.PodResourceClaim) Finding {
	template := deref(entry.ResourceClaimTemplateName, "")
	out := f.about(p, LinkDevice, Waiting)
	out.Reason, out.key = "ResourceClaimNotCreated", "device claim of "+template
	out.Message = fmt.Sprintf("its resource claim %s is not made yet from template %s", entry.Name, template)
	if e := f.lastEvent(p.UID, "FailedResourceClaimCreation"); e != nil {
		out.Severity, out.Reason, out.Message = Error, e.Reason, e.Message
		out.Do = "mend what the message says; it is tried again by itself"
		if strings.Contains(e.Message, "not found") {
			out.Do = fmt.Sprintf("make ResourceClaimTemplate %s, or correct the pod's resourceClaims", template)
		}
	} else if f.Now.Sub(p.CreationTimestamp.Time) > slowToLook {
		out.Severity, out.Do = Error, "see whether the controllers run: `canopus status`"
	}
	return out
}

// explainDeviceClaim follows a resource claim to its devices.
func (f *Facts) explainDeviceClaim(c *resourcev1.ResourceClaim) (string, []Finding) {
	object := "resourceclaim/" + c.Name
	if a := c.Status.Allocation; a != nil {
		var devices []string
		for _, r := range a.Devices.Results {
			devices = append(devices, r.Driver+"/"+r.Pool+"/"+r.Device)
		}
		return fmt.Sprintf("allocated: %s; reserved for %s", orElse(some(devices), "no device"), plural(len(c.Status.ReservedFor), "user")), nil
	}
	var out []Finding
	for i := range c.Spec.Devices.Requests {
		for _, name := range classesOf(&c.Spec.Devices.Requests[i]) {
			if class, looked := f.DeviceClasses[name]; looked && class == nil {
				out = append(out, Finding{Link: LinkDevice, Severity: Error, Reason: "DeviceClassNotFound", Object: object, key: "device class " + name,
					Message: fmt.Sprintf("claim %s wants a device of class %s, which does not exist", c.Name, name),
					Do:      fmt.Sprintf("make DeviceClass %s (its driver's installation does), or make the claim again with one of `kubectl get deviceclasses`", name)})
			}
		}
	}
	if len(out) == 0 {
		out = append(out, Finding{Link: LinkDevice, Severity: Waiting, Reason: "WaitForPod", Object: object, key: "device claim waits",
			Message: fmt.Sprintf("claim %s gets its devices when a pod that uses it is scheduled", c.Name), Do: "start a pod that uses it; if there is one, `canopus why` it"})
	}
	return "not allocated", out
}

// classesOf are the device classes that a request names.
func classesOf(r *resourcev1.DeviceRequest) []string {
	var out []string
	if r.Exactly != nil {
		out = append(out, r.Exactly.DeviceClassName)
	}
	for i := range r.FirstAvailable {
		out = append(out, r.FirstAvailable[i].DeviceClassName)
	}
	return out
}

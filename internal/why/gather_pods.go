package why

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/verdict"
)

// How much is read about the pods of one workload.
const (
	maxPods  = 200 // whose events and verdicts are read
	maxLogs  = 6   // containers whose logs are read
	logLines = 10
	logBytes = 16 << 10
)

// unwell says whether a pod needs a closer look.
func unwell(p *corev1.Pod, now time.Time) bool {
	return p.Status.Phase != corev1.PodSucceeded && (!podReady(p) || p.DeletionTimestamp != nil || len(logWishes(p, now)) > 0)
}

// pods reads what explains the state of those pods that are not well: events, verdicts, nodes, claims, the ends of logs.
func (g gatherer) pods(ctx context.Context) {
	told := map[string]bool{} // symptoms with a log
	looked := 0
	if p, ok := g.f.Object.(*corev1.Pod); ok {
		g.verdict(ctx, p)
	}
	for _, p := range g.f.Pods {
		if !unwell(p, g.f.Now) {
			continue
		}
		if looked++; looked > maxPods {
			continue
		}
		if len(g.f.Events[p.UID]) == 0 {
			g.events(ctx, p.UID)
		}
		if p.Spec.NodeName == "" {
			g.allNodes(ctx)
			g.verdict(ctx, p)
		} else {
			g.node(ctx, p.Spec.NodeName)
		}
		if p.Spec.NodeName == "" || untouched(p) {
			g.claims(ctx, p)
			g.deviceClaims(ctx, p)
		}
		for _, w := range logWishes(p, g.f.Now) {
			if !told[w.symptom] && len(told) < maxLogs {
				told[w.symptom] = true
				g.log(ctx, p, w)
			}
		}
	}
	if looked > maxPods {
		g.f.Unseen = append(g.f.Unseen, fmt.Sprintf("events and verdicts of %d more pods that are not well: too many to read", looked-maxPods))
	}
}

func (g gatherer) verdict(ctx context.Context, p *corev1.Pod) {
	if g.f.Verdicts[p.UID] != nil {
		return
	}
	body, err := g.c.CoreV1().RESTClient().Get().AbsPath(verdict.Path).Param("namespace", p.Namespace).Param("name", p.Name).
		SetHeader("Accept", "application/json").DoRaw(ctx)
	if !g.seen("scheduler verdicts", err) {
		return
	}
	v := &verdict.Verdict{}
	if g.seen("scheduler verdicts", json.Unmarshal(body, v)) && v.UID == p.UID {
		g.f.Verdicts[p.UID] = v
	}
}

func (g gatherer) node(ctx context.Context, name string) {
	if _, ok := g.f.Nodes[name]; ok {
		return
	}
	node, err := g.c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		g.f.Nodes[name] = nil
	case g.seen("node "+name, err):
		g.f.Nodes[name] = node
	}
}

func (g gatherer) allNodes(ctx context.Context) {
	if g.f.AllNodes {
		return
	}
	list, err := g.c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if !g.seen("nodes", err) {
		return
	}
	g.f.AllNodes = true
	for i := range list.Items {
		g.f.Nodes[list.Items[i].Name] = &list.Items[i]
	}
}

func (g gatherer) claims(ctx context.Context, p *corev1.Pod) {
	for i := range p.Spec.Volumes {
		name := claimName(p, &p.Spec.Volumes[i])
		if _, ok := g.f.Claims[name]; ok || name == "" {
			continue
		}
		claim, err := g.c.CoreV1().PersistentVolumeClaims(p.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			g.f.Claims[name] = nil
		case g.seen("persistentvolumeclaim "+name, err):
			g.f.Claims[name] = claim
			g.class(ctx, claim)
			g.events(ctx, claim.UID)
		}
	}
}

func (g gatherer) class(ctx context.Context, c *corev1.PersistentVolumeClaim) {
	name := deref(c.Spec.StorageClassName, "")
	if _, ok := g.f.Classes[name]; ok || name == "" || c.Status.Phase == corev1.ClaimBound {
		return
	}
	class, err := g.c.StorageV1().StorageClasses().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		g.f.Classes[name] = nil
	case g.seen("storageclass "+name, err):
		g.f.Classes[name] = class
	}
}

func (g gatherer) deviceClaims(ctx context.Context, p *corev1.Pod) {
	for i := range p.Spec.ResourceClaims {
		name, made, needed := deviceClaim(p, &p.Spec.ResourceClaims[i])
		if _, ok := g.f.DeviceClaims[name]; ok || !made || !needed {
			continue
		}
		claim, err := g.c.ResourceV1().ResourceClaims(p.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			g.f.DeviceClaims[name] = nil
		case g.seen("resourceclaim "+name, err):
			g.f.DeviceClaims[name] = claim
			g.deviceClasses(ctx, claim)
		}
	}
}

func (g gatherer) deviceClasses(ctx context.Context, c *resourcev1.ResourceClaim) {
	for i := range c.Spec.Devices.Requests {
		for _, name := range classesOf(&c.Spec.Devices.Requests[i]) {
			if _, ok := g.f.DeviceClasses[name]; ok || c.Status.Allocation != nil {
				continue
			}
			class, err := g.c.ResourceV1().DeviceClasses().Get(ctx, name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				g.f.DeviceClasses[name] = nil
			case g.seen("deviceclass "+name, err):
				g.f.DeviceClasses[name] = class
			}
		}
	}
}

func (g gatherer) log(ctx context.Context, p *corev1.Pod, w logWish) {
	lines, limit := int64(logLines), int64(logBytes)
	body, err := g.c.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
		Container: w.container, Previous: w.previous, TailLines: &lines, LimitBytes: &limit}).DoRaw(ctx)
	if !g.seen("log of pod "+p.Name+", container "+w.container, err) {
		return
	}
	said := []string{}
	if text := strings.TrimRight(string(body), "\n"); text != "" {
		said = strings.Split(text, "\n")
	}
	g.f.Logs[LogKey{p.UID, w.container, w.previous}] = said
}

// Package images gets container images onto the node through CRI: it decides whether to pull, finds the credentials in
// the pod's pull secrets, limits parallel pulls, and removes images nobody uses when the disk fills up.
package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
)

// The reasons a container waits for its image.
const (
	ReasonErrImagePull      = "ErrImagePull"
	ReasonImagePullBackOff  = "ImagePullBackOff"
	ReasonErrImageNever     = "ErrImageNeverPull"
	ReasonInvalidImageName  = "InvalidImageName"
	ReasonImageInspectError = "ImageInspectError"
)

// Error is why an image is not there; Reason is what the container's status shows.
type Error struct {
	Reason string
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Image is an image that is present.
type Image struct {
	Ref  string // for CreateContainer
	ID   string
	User crispec.ImageUser
}

// EventFunc records an event about the container's pod.
type EventFunc func(kind, reason, message string)

// Puller pulls images.
type Puller struct {
	client *cri.Client
	clock  clock.Clock
	slots  chan struct{}
}

// NewPuller returns a Puller that runs at most parallel pulls at once.
func NewPuller(client *cri.Client, clk clock.Clock, parallel int) *Puller {
	return &Puller{client: client, clock: clk, slots: make(chan struct{}, max(parallel, 1))}
}

// Request is one container's wish for an image.
type Request struct {
	Pod       *corev1.Pod
	Container *corev1.Container
	Secrets   []*corev1.Secret
	Sandbox   *runtimeapi.PodSandboxConfig
	Event     EventFunc
}

// Ensure returns the image of a container, pulling it if the container's policy says so.
func (p *Puller) Ensure(ctx context.Context, r Request) (Image, error) {
	name, err := Normalize(r.Container.Image)
	if err != nil {
		msg := fmt.Sprintf("Failed to apply default image tag %q: %v", r.Container.Image, err)
		r.Event(corev1.EventTypeWarning, "InspectFailed", msg)
		return Image{}, &Error{ReasonInvalidImageName, errors.New(msg)}
	}
	have, err := p.Present(ctx, name)
	if err != nil {
		return Image{}, &Error{ReasonImageInspectError, fmt.Errorf("inspect image %q: %w", name, err)}
	}
	policy := Policy(r.Container)
	switch {
	case have != nil && policy != corev1.PullAlways:
		r.Event(corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", r.Container.Image))
		return imageOf(have, name), nil
	case have == nil && policy == corev1.PullNever:
		msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", r.Container.Image)
		r.Event(corev1.EventTypeWarning, ReasonErrImageNever, msg)
		return Image{}, &Error{ReasonErrImageNever, errors.New(msg)}
	}
	return p.pull(ctx, r, name)
}

func (p *Puller) pull(ctx context.Context, r Request, name string) (Image, error) {
	start := p.clock.Now()
	r.Event(corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", r.Container.Image))
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
	defer func() { <-p.slots }()
	begun := p.clock.Now()
	ref, err := p.pullWithAny(ctx, name, Credentials(name, r.Secrets), r.Sandbox)
	if err != nil {
		msg := fmt.Sprintf("Failed to pull image %q: %v", r.Container.Image, err)
		r.Event(corev1.EventTypeWarning, "Failed", msg)
		return Image{}, &Error{ReasonErrImagePull, err}
	}
	img, err := p.Present(ctx, ref)
	if err != nil || img == nil {
		return Image{}, &Error{ReasonImageInspectError, fmt.Errorf("image %q is not there after pulling it: %w", name, err)}
	}
	end := p.clock.Now()
	r.Event(corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		r.Container.Image, end.Sub(begun).Truncate(time.Millisecond), end.Sub(start).Truncate(time.Millisecond), img.GetSize()))
	return imageOf(img, name), nil
}

// pullWithAny tries the credentials in turn, and none at last.
func (p *Puller) pullWithAny(ctx context.Context, name string, creds []*runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	if len(creds) == 0 {
		creds = []*runtimeapi.AuthConfig{nil}
	}
	var errs []error
	for _, auth := range creds {
		resp, err := p.client.Images.PullImage(ctx, &runtimeapi.PullImageRequest{
			Image: &runtimeapi.ImageSpec{Image: name}, Auth: auth, SandboxConfig: sandbox})
		if err == nil {
			return resp.GetImageRef(), nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// Present returns the image if the runtime has it. It never pulls.
func (p *Puller) Present(ctx context.Context, name string) (*runtimeapi.Image, error) {
	resp, err := p.client.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	if err != nil {
		return nil, err
	}
	return resp.GetImage(), nil
}

// Policy returns the container's pull policy; without one it depends on the tag.
func Policy(c *corev1.Container) corev1.PullPolicy {
	if c.ImagePullPolicy != "" {
		return c.ImagePullPolicy
	}
	name, err := Normalize(c.Image)
	if err == nil && strings.HasSuffix(name, ":latest") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func imageOf(img *runtimeapi.Image, name string) Image {
	out := Image{Ref: img.GetId(), ID: img.GetId(), User: crispec.ImageUser{Name: img.GetUsername()}}
	if out.Ref == "" {
		out.Ref = name
	}
	if u := img.GetUid(); u != nil {
		v := u.GetValue()
		out.User = crispec.ImageUser{UID: &v}
	}
	return out
}

// Normalize checks an image name and adds the tag "latest" when it has neither tag nor digest.
func Normalize(name string) (string, error) {
	if name == "" {
		return "", errors.New("couldn't parse image name: it is empty")
	}
	repo, digest, hasDigest := strings.Cut(name, "@")
	if hasDigest && !strings.Contains(digest, ":") {
		return "", fmt.Errorf("couldn't parse image name %q: invalid reference format", name)
	}
	last := repo[strings.LastIndexByte(repo, '/')+1:]
	path, tag, hasTag := strings.Cut(last, ":")
	if path == "" || hasTag && tag == "" || !validPath(strings.TrimSuffix(repo, ":"+tag), tag) {
		return "", fmt.Errorf("couldn't parse image name %q: invalid reference format", name)
	}
	if !hasTag && !hasDigest {
		return name + ":latest", nil
	}
	return name, nil
}

// validPath checks the characters of a repository and a tag. The first part may be a registry's host and port.
func validPath(repo, tag string) bool {
	for i, part := range strings.Split(repo, "/") {
		if part == "" {
			return false
		}
		for _, r := range part {
			ok := r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
			host := i == 0 && strings.Contains(repo, "/") && (r == ':' || r == '[' || r == ']' || r >= 'A' && r <= 'Z')
			if !ok && !host {
				return false
			}
		}
	}
	if len(tag) > 128 {
		return false
	}
	for _, r := range tag {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)) {
			return false
		}
	}
	return true
}

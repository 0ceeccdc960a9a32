package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"canopus/test/plane"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	probePeriod  = 50 * time.Millisecond // between requests; each verb has its turn
	probeTimeout = time.Minute
	probeAtOnce  = 100 // requests without an answer; more are not sent, and count as failed
	probeObjects = 10  // that are read and changed
	pageSize     = 500 // of lists, as kubectl asks for them
)

var (
	errBusy  = errors.New("not sent: too many requests are without an answer")
	errNoNew = errors.New("not sent: nothing to delete, for no create was answered meanwhile")
)

// probe is a client that sends a few requests all the time and notes how long each took. It sends on time whether or not there
// was an answer to those before: a server that stalls is seen by all requests of that time, not by one.
type probe struct {
	client    *kubernetes.Clientset
	namespace string
	note      func(verb string, took time.Duration, err error)

	mu   sync.Mutex
	made []string // ConfigMaps to delete
	next string   // where the walk through all pods goes on; "": at the beginning
}

func newProbe(ctx context.Context, s *plane.Server, note func(string, time.Duration, error)) (*probe, error) {
	client, err := plane.Client(s.Config, plane.Protobuf, true)
	if err != nil {
		return nil, err
	}
	p := &probe{client: client, note: note}
	if p.namespace, err = plane.Namespace(ctx, client); err != nil {
		return nil, err
	}
	for i := range probeObjects {
		if _, err := client.CoreV1().ConfigMaps(p.namespace).Create(ctx, configMap(i), metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// verb is one kind of request. The time it takes ends when do returns; what is left to do with the answer is in then.
type verb struct {
	name string
	do   func(ctx context.Context, i int) (then func() error, err error)
}

func (p *probe) verbs() []verb {
	maps := p.client.CoreV1().ConfigMaps(p.namespace)
	return []verb{
		{"create", func(ctx context.Context, i int) (func() error, error) {
			o := configMap(probeObjects + i)
			if _, err := maps.Create(ctx, o, metav1.CreateOptions{}); err != nil {
				return nil, err
			}
			return func() error { p.put(o.Name); return nil }, nil
		}},
		{"get", func(ctx context.Context, i int) (func() error, error) {
			_, err := maps.Get(ctx, configMapName(i%probeObjects), metav1.GetOptions{})
			return nil, err
		}},
		{"list", p.list},
		{"patch", func(ctx context.Context, i int) (func() error, error) {
			change := fmt.Appendf(nil, `{"data":{"seq":"%d"}}`, i)
			_, err := maps.Patch(ctx, configMapName(i%probeObjects), types.MergePatchType, change, metav1.PatchOptions{})
			return nil, err
		}},
		{"delete", func(ctx context.Context, _ int) (func() error, error) {
			name, ok := p.take()
			if !ok {
				return nil, errNoNew
			}
			return nil, maps.Delete(ctx, name, metav1.DeleteOptions{})
		}},
	}
}

func (p *probe) put(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = append(p.made, name)
}

func (p *probe) take() (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.made) == 0 {
		return "", false
	}
	name := p.made[0]
	p.made = p.made[1:]
	return name, true
}

// list gets one page of all pods in the cluster: the next one, or the first if that is still under way or all were seen.
func (p *probe) list(ctx context.Context, _ int) (func() error, error) {
	p.mu.Lock()
	from := p.next
	p.next = ""
	p.mu.Unlock()
	body, err := p.client.CoreV1().RESTClient().Get().Resource("pods").
		VersionedParams(&metav1.ListOptions{Limit: pageSize, Continue: from}, scheme.ParameterCodec).Do(ctx).Raw()
	if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
		return nil, nil // the walk took longer than history is kept: from the beginning again
	}
	return func() error {
		var page corev1.PodList
		if err := runtime.DecodeInto(scheme.Codecs.UniversalDeserializer(), body, &page); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.next = page.Continue
		return nil
	}, err
}

// run probes until ctx ends.
func (p *probe) run(ctx context.Context) {
	tick := time.NewTicker(probePeriod)
	defer tick.Stop()
	verbs, slots := p.verbs(), make(chan struct{}, probeAtOnce)
	var sent sync.WaitGroup
	defer sent.Wait()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v := verbs[i%len(verbs)]
		select {
		case slots <- struct{}{}:
			sent.Go(func() {
				defer func() { <-slots }()
				p.send(ctx, v, i/len(verbs))
			})
		default:
			p.note(v.name, probeTimeout, errBusy)
		}
	}
}

func (p *probe) send(ctx context.Context, v verb, i int) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	then, err := v.do(limited, i)
	took := time.Since(began)
	if err == nil && then != nil {
		err = then()
	}
	if ctx.Err() == nil && !errors.Is(err, errNoNew) { // that create counts already
		p.note(v.name, took, err)
	}
}

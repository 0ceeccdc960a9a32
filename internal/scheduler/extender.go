package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	configv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

const (
	// extenderTimeout is for calls of an extender that sets none.
	extenderTimeout = 5 * time.Second
	// maxAnswer bounds what an extender may answer: all nodes of a large cluster, in full.
	maxAnswer = 256 << 20
	// extenderScale brings an extender's points, 0 to 10, to those of a node.
	extenderScale = maxScore / extenderv1.MaxExtenderPriority
)

// extender is a program outside that has a say in where pods go.
type extender struct {
	configv1.Extender
	client *http.Client
	most   int64 // bytes of an answer
}

// newExtenders checks what can be checked without calling anybody.
func newExtenders(list []configv1.Extender) ([]*extender, error) {
	var out []*extender
	for _, e := range list {
		config, err := extenderTLS(e.TLSConfig)
		if err != nil {
			return nil, fmt.Errorf("scheduler: extender %s: %w", e.URLPrefix, err)
		}
		transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true}
		client := &http.Client{Transport: transport, Timeout: cmp.Or(e.HTTPTimeout.Duration, extenderTimeout)}
		out = append(out, &extender{Extender: e, client: client, most: maxAnswer})
	}
	return out, nil
}

// extenderTLS reads keys and authorities; data goes before files.
func extenderTLS(c *configv1.ExtenderTLSConfig) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c == nil {
		return out, nil
	}
	read := func(data []byte, file string) ([]byte, error) {
		if len(data) > 0 || file == "" {
			return data, nil
		}
		return os.ReadFile(file)
	}
	ca, err := read(c.CAData, c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("tlsConfig.caFile: %w", err)
	}
	if len(ca) > 0 {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("tlsConfig: the authority has no PEM certificate in it")
		}
	}
	cert, err := read(c.CertData, c.CertFile)
	if err != nil {
		return nil, fmt.Errorf("tlsConfig.certFile: %w", err)
	}
	key, err := read(c.KeyData, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tlsConfig.keyFile: %w", err)
	}
	if len(cert) > 0 || len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("tlsConfig: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	out.InsecureSkipVerify, out.ServerName = c.Insecure, c.ServerName
	return out, nil
}

// interested reports whether e has a say about pod: it manages one of the pod's resources, or all pods.
func (e *extender) interested(pod *corev1.Pod) bool {
	if len(e.ManagedResources) == 0 {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, r := range e.ManagedResources {
				name := corev1.ResourceName(r.Name)
				if _, ok := list[i].Resources.Requests[name]; ok {
					return true
				}
				if _, ok := list[i].Resources.Limits[name]; ok {
					return true
				}
			}
		}
	}
	return false
}

// call posts args to one of e's verbs.
func (e *extender) call(ctx context.Context, verb string, args, answer any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	url := strings.TrimRight(e.URLPrefix, "/") + "/" + verb
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	r, err := e.client.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }() // read to its end, or given up
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("failed %s with extender at URL %s, code %d", verb, url, r.StatusCode)
	}
	limited := &io.LimitedReader{R: r.Body, N: e.most}
	err = json.NewDecoder(limited).Decode(answer)
	switch {
	case err != nil && limited.N <= 0:
		return fmt.Errorf("the answer of extender at URL %s is longer than %d bytes", url, e.most)
	case err != nil:
		return fmt.Errorf("read the answer of extender at URL %s: %w", url, err)
	}
	return nil
}

// args shows nodes to e: their names to one that knows the rest.
func (e *extender) args(pod *corev1.Pod, nodes []*corev1.Node) *extenderv1.ExtenderArgs {
	out := &extenderv1.ExtenderArgs{Pod: pod}
	if e.NodeCacheCapable {
		names := make([]string, len(nodes))
		for i, n := range nodes {
			names[i] = n.Name
		}
		out.NodeNames = &names
		return out
	}
	out.Nodes = &corev1.NodeList{Items: make([]corev1.Node, len(nodes))}
	for i, n := range nodes {
		out.Nodes.Items[i] = *n
	}
	return out
}

// filter asks which nodes e lets pod have, and why not the others.
func (e *extender) filter(ctx context.Context, pod *corev1.Pod, nodes []*corev1.Node) (kept []*corev1.Node, refused []reason, err error) {
	var answer extenderv1.ExtenderFilterResult
	if err := e.call(ctx, e.FilterVerb, e.args(pod, nodes), &answer); err != nil {
		return nil, nil, err
	}
	if answer.Error != "" {
		return nil, nil, errors.New(answer.Error)
	}
	fits := sets.Set[string]{}
	switch {
	case e.NodeCacheCapable && answer.NodeNames != nil:
		fits.Insert(*answer.NodeNames...)
	case answer.Nodes != nil:
		for i := range answer.Nodes.Items {
			fits.Insert(answer.Nodes.Items[i].Name)
		}
	}
	for _, n := range nodes {
		if fits.Has(n.Name) {
			kept = append(kept, n)
			continue
		}
		why := final(cmp.Or(answer.FailedAndUnresolvableNodes[n.Name], answer.FailedNodes[n.Name], "node(s) were refused by an extender"))
		refused = append(refused, why)
	}
	return kept, refused, nil
}

// prioritize adds e's points for nodes.
func (e *extender) prioritize(ctx context.Context, pod *corev1.Pod, nodes []*corev1.Node, points map[string]int64) error {
	var answer extenderv1.HostPriorityList
	if err := e.call(ctx, e.PrioritizeVerb, e.args(pod, nodes), &answer); err != nil {
		return err
	}
	for _, h := range answer {
		if _, asked := points[h.Host]; asked {
			points[h.Host] += h.Score * e.Weight * extenderScale
		}
	}
	return nil
}

// bind has e bind pod.
func (e *extender) bind(ctx context.Context, pod *corev1.Pod, node string) error {
	var answer extenderv1.ExtenderBindingResult
	args := &extenderv1.ExtenderBindingArgs{PodName: pod.Name, PodNamespace: pod.Namespace, PodUID: pod.UID, Node: node}
	if err := e.call(ctx, e.BindVerb, args, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// ignoredByExtenders are the resources that extenders see to, so that our own filter need not.
func ignoredByExtenders(list []configv1.Extender) []string {
	var out []string
	for _, e := range list {
		for _, r := range e.ManagedResources {
			if r.IgnoredByScheduler {
				out = append(out, r.Name)
			}
		}
	}
	return out
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"canopus/internal/cli"
	"canopus/internal/client"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	pollEvery = 50 * time.Millisecond
	oneTry    = 5 * time.Second // no single question may take longer
)

// await waits until the cluster can be used, one step after the other.
func (u *up) await(ctx context.Context) error {
	var access *client.Access
	steps := []struct {
		name string
		node bool // only with a node on this machine
		try  func(context.Context) error
	}{
		{"API server answers", false, func(ctx context.Context) (err error) {
			if access, err = client.FromKubeconfig(u.cfg.kubeconfig, "canopus-up"); err != nil {
				return err
			}
			_, _, err = readiness(ctx, access.Client)
			return err
		}},
		{"system objects are there", false, func(ctx context.Context) error { return systemObjects(ctx, access.Client) }},
		{"node is Ready", true, func(ctx context.Context) error { return u.nodeReady(ctx, access.Client) }},
		{"cluster DNS answers", true, func(ctx context.Context) error { return askDNS(ctx, u.cfg) }},
	}
	for _, s := range steps {
		if s.node && u.cfg.noAgent {
			continue
		}
		if err := u.until(ctx, s.name, s.try); err != nil {
			return err
		}
	}
	if !u.demo {
		return nil
	}
	return u.runDemo(ctx, access.Client)
}

// until tries again and again as one step of the terminal. What failed last is what is waited for.
func (u *up) until(ctx context.Context, name string, try func(context.Context) error) error {
	return u.steps.Do(name, func(note func(string)) error {
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			one, cancel := context.WithTimeout(ctx, oneTry)
			err := try(one)
			cancel()
			if err == nil {
				return nil
			}
			if crashed := u.crash.look(); crashed != nil {
				return crashed
			}
			if ctx.Err() == nil {
				note(shortened(err))
			}
			select {
			case <-ctx.Done():
				if errors.Is(ctx.Err(), context.Canceled) {
					return errors.New("interrupted: canopus goes on in the background, `canopus status` tells how far it is")
				}
				return fmt.Errorf("%s: not within %s, last seen: %s: %w", name, u.timeout, shortened(err), context.DeadlineExceeded)
			case <-tick.C:
			}
		}
	})
}

// shortened fits an error into what is left of a line.
func shortened(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if r := []rune(line); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return line
}

// readiness asks the API server how it is: the names of its checks that pass, and of those that do not with their reasons.
func readiness(ctx context.Context, c kubernetes.Interface) (passing, failing []string, err error) {
	body, err := c.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "true").DoRaw(ctx)
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "[+]"); ok {
			passing = append(passing, strings.TrimSuffix(name, " ok"))
		}
		if name, ok := strings.CutPrefix(line, "[-]"); ok {
			failing = append(failing, name)
		}
	}
	if len(failing) > 0 {
		return passing, failing, errors.New(strings.Join(failing, ", "))
	}
	return passing, nil, err
}

// systemObjects looks for what every program on the cluster relies on.
func systemObjects(ctx context.Context, c kubernetes.Interface) error {
	for _, name := range []string{"default", "kube-system"} {
		if _, err := c.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
	}
	_, err := c.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	return err
}

func (u *up) nodeReady(ctx context.Context, c kubernetes.Interface) error {
	name, err := nodeName(u.cfg.nodeName)
	if err != nil {
		return err
	}
	n, err := c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("node %s has not registered yet", name)
	}
	if err != nil {
		return err
	}
	ready, why := readyCondition(n)
	if !ready {
		return errors.New(why)
	}
	// After a restart the condition may be that of the last run.
	lease, err := c.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if t := lease.Spec.RenewTime; t == nil || t.Before(&metav1.MicroTime{Time: u.began}) && u.crash.log != "" {
		return errors.New("the node agent has not reported since the start")
	}
	return nil
}

// readyCondition says whether a node is Ready, or why not.
func readyCondition(n *corev1.Node) (bool, string) {
	i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if i < 0 {
		return false, "the node agent has not reported yet"
	}
	c := n.Status.Conditions[i]
	return c.Status == corev1.ConditionTrue, c.Message
}

// askDNS resolves the name of the API server's Service through the cluster's name server.
func askDNS(ctx context.Context, cfg *config) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, net.JoinHostPort(cfg.clusterDNS, "53"))
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	name := "kubernetes.default.svc." + cfg.clusterDomain + "."
	_, err := resolver.LookupHost(ctx, name)
	if cause, ok := errors.AsType[*net.DNSError](err); ok { // its own text names the machine's resolver
		return fmt.Errorf("%s, asked for %s: %s", cfg.clusterDNS, name, cause.Err)
	}
	return err
}

const applier = "canopus-up"

// runDemo applies the demo and waits until it answers.
func (u *up) runDemo(ctx context.Context, c kubernetes.Interface) error {
	options := metav1.ApplyOptions{FieldManager: applier, Force: true}
	err := u.until(ctx, "demo is applied", func(ctx context.Context) error {
		if _, err := c.CoreV1().Namespaces().Apply(ctx, cli.DemoNamespaceObject(), options); err != nil {
			return err
		}
		if _, err := c.AppsV1().Deployments(cli.DemoNamespace).Apply(ctx, cli.DemoDeployment(), options); err != nil {
			return err
		}
		_, err := c.CoreV1().Services(cli.DemoNamespace).Apply(ctx, cli.DemoService(), options)
		return err
	})
	if err != nil {
		return err
	}
	err = u.until(ctx, "demo pods are ready", func(ctx context.Context) error {
		d, err := c.AppsV1().Deployments(cli.DemoNamespace).Get(ctx, cli.DemoName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if s := d.Status; s.ObservedGeneration < d.Generation || s.AvailableReplicas < *d.Spec.Replicas {
			return fmt.Errorf("%d of %d pods are available", s.AvailableReplicas, *d.Spec.Replicas)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return u.until(ctx, "demo answers over HTTP", func(ctx context.Context) error {
		address, err := demoAddress(ctx, c)
		if err != nil {
			return err
		}
		u.demoAt = address
		u.answer, err = fetch(ctx, address)
		return err
	})
}

// demoAddress is the demo's node port on the first node.
func demoAddress(ctx context.Context, c kubernetes.Interface) (string, error) {
	service, err := c.CoreV1().Services(cli.DemoNamespace).Get(ctx, cli.DemoName, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && len(service.Spec.Ports) > 0 {
				return fmt.Sprintf("http://%s", netip.AddrPortFrom(ip, uint16(service.Spec.Ports[0].NodePort))), nil
			}
		}
	}
	return "", errors.New("no node has an address yet")
}

// fetch gets a page without any proxy: the address is this machine's own.
func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	direct := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := direct.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(nil, response.Body, 64<<10)); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, response.Status)
	}
	return strings.TrimSpace(body.String()), nil
}

// close says what can be done now.
func (u *up) close() {
	self := "canopus"
	if _, err := exec.LookPath(self); err != nil {
		self = os.Args[0] // as we were called
	}
	fmt.Fprintln(u.out)
	if u.demoAt != "" {
		fmt.Fprintf(u.out, "  demo        %s   %q\n", u.demoAt, u.answer)
	}
	fmt.Fprintf(u.out, "  kubeconfig  %s\n", u.cfg.kubeconfig)
	fmt.Fprintf(u.out, "  log         %s\n", logFile(u.cfg))
	fmt.Fprintln(u.out, "\nTry next:")
	if u.cfg.dataDir != defaultDataDir { // kubectl's own flags leave no room for ours
		self = "CANOPUS_DATA_DIR=" + u.cfg.dataDir + " " + self
	}
	for _, line := range u.suggestions() {
		fmt.Fprintf(u.out, "  %s %s\n", self, line)
	}
}

// suggestions are three commands that work as they stand, for the cluster at hand.
func (u *up) suggestions() []string {
	kubectl := "kubectl"
	if u.cfg.kubeconfig != defaultKubeconfig {
		kubectl += " --kubeconfig " + u.cfg.kubeconfig
	}
	if u.demoAt != "" {
		return []string{kubectl + " get pods -n demo -o wide", kubectl + " scale deployment web -n demo --replicas 5", "status"}
	}
	return []string{kubectl + " get nodes", kubectl + " create deployment web --image canopus.local/demo:1", "status"}
}

package why

import (
	"errors"
	"fmt"
	"strings"
)

// Target is the object that is asked about.
type Target struct {
	Kind      string // as in knownKinds, or the word given for a kind without a chain of its own
	Namespace string // empty for kinds without one
	Name      string
}

// String is kind/name.
func (t Target) String() string { return t.Kind + "/" + t.Name }

// The kinds that have a chain of their own.
const (
	kindPod         = "pod"
	kindDeployment  = "deployment"
	kindReplicaSet  = "replicaset"
	kindController  = "replicationcontroller"
	kindStatefulSet = "statefulset"
	kindDaemonSet   = "daemonset"
	kindJob         = "job"
	kindCronJob     = "cronjob"
	kindClaim       = "persistentvolumeclaim"
	kindService     = "service"
	kindNode        = "node"
	kindAutoscaler  = "horizontalpodautoscaler"
	kindBudget      = "poddisruptionbudget"
	kindDeviceClaim = "resourceclaim"
)

// shortNames are the other words for them besides the plural.
var shortNames = map[string]string{
	"po": kindPod, "deploy": kindDeployment, "rs": kindReplicaSet, "rc": kindController, "sts": kindStatefulSet, "ds": kindDaemonSet,
	"cj": kindCronJob, "pvc": kindClaim, "svc": kindService, "no": kindNode, "hpa": kindAutoscaler, "pdb": kindBudget,
}

var knownKinds = []string{kindPod, kindDeployment, kindReplicaSet, kindController, kindStatefulSet, kindDaemonSet, kindJob, kindCronJob, kindClaim, kindService, kindNode,
	kindAutoscaler, kindBudget, kindDeviceClaim}

// ParseTarget reads KIND/NAME, or KIND and NAME.
func ParseTarget(args []string, namespace string) (Target, error) {
	var kind, name string
	switch len(args) {
	case 1:
		var ok bool
		if kind, name, ok = strings.Cut(args[0], "/"); !ok {
			return Target{}, fmt.Errorf("%q is a kind or a name, both are needed: KIND/NAME, such as pod/web-0", args[0])
		}
	case 2:
		kind, name = args[0], args[1]
	default:
		return Target{}, errors.New("say which object: KIND/NAME, such as deployment/web")
	}
	if kind == "" || name == "" || strings.Contains(name, "/") {
		return Target{}, fmt.Errorf("%q is no KIND/NAME, such as pod/web-0", strings.Join(args, " "))
	}
	t := Target{Kind: canonical(kind), Namespace: namespace, Name: name}
	if t.Kind == kindNode {
		t.Namespace = ""
	}
	return t, nil
}

// canonical is a kind by its usual word, whether a plural, a short name or with its group was given.
func canonical(word string) string {
	word = strings.ToLower(word)
	for _, group := range []string{".apps", ".batch", ".autoscaling", ".policy", ".resource.k8s.io"} {
		if cut, ok := strings.CutSuffix(word, group); ok {
			word, _, _ = strings.Cut(cut, ".") // deployments.v1.apps
			break
		}
	}
	if kind, ok := shortNames[word]; ok {
		return kind
	}
	for _, kind := range knownKinds {
		if word == kind || word == kind+"s" {
			return kind
		}
	}
	return word
}

// Package env makes a container's environment: values, references to fields, resources, ConfigMaps and Secrets, whole
// maps with envFrom, and the variables that tell of Services. It is pure but for the Objects it is given.
package env

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Objects reads ConfigMaps and Secrets by name. found is false when the object does not exist.
type Objects interface {
	ConfigMap(namespace, name string) (obj *corev1.ConfigMap, found bool, err error)
	Secret(namespace, name string) (obj *corev1.Secret, found bool, err error)
}

// Input is everything an environment depends on.
type Input struct {
	Pod         *corev1.Pod
	Container   *corev1.Container
	Services    []*corev1.Service // all that the pod may be told of
	Objects     Objects
	Allocatable corev1.ResourceList // the node's, the answer to limits that are not set
}

// Result is the environment, sorted by name where order does not matter, and what was wrong but not fatal.
type Result struct {
	Vars    []corev1.EnvVar // Name and Value only
	Skipped []string        // keys of envFrom that are not valid variable names
}

// Make returns the environment of a container.
func Make(in Input) (Result, error) {
	m := maker{in: in, values: map[string]string{}}
	for k, v := range serviceVars(in.Services, in.Pod) {
		m.values[k] = v
	}
	if err := m.from(); err != nil {
		return Result{}, err
	}
	if err := m.explicit(); err != nil {
		return Result{}, err
	}
	res := Result{Skipped: m.skipped}
	for _, k := range slices.Sorted(maps.Keys(m.values)) {
		res.Vars = append(res.Vars, corev1.EnvVar{Name: k, Value: m.values[k]})
	}
	return res, nil
}

type maker struct {
	in      Input
	values  map[string]string
	skipped []string
}

// from adds whole ConfigMaps and Secrets.
func (m *maker) from() error {
	ns := m.in.Pod.Namespace
	for _, f := range m.in.Container.EnvFrom {
		switch {
		case f.ConfigMapRef != nil:
			obj, found, err := m.in.Objects.ConfigMap(ns, f.ConfigMapRef.Name)
			if err != nil {
				return err
			}
			if !found {
				if optional(f.ConfigMapRef.Optional) {
					continue
				}
				return fmt.Errorf("configmap %q not found", f.ConfigMapRef.Name)
			}
			m.addAll(f.Prefix, obj.Data)
		case f.SecretRef != nil:
			obj, found, err := m.in.Objects.Secret(ns, f.SecretRef.Name)
			if err != nil {
				return err
			}
			if !found {
				if optional(f.SecretRef.Optional) {
					continue
				}
				return fmt.Errorf("secret %q not found", f.SecretRef.Name)
			}
			data := make(map[string]string, len(obj.Data))
			for k, v := range obj.Data {
				data[k] = string(v)
			}
			m.addAll(f.Prefix, data)
		}
	}
	return nil
}

func (m *maker) addAll(prefix string, data map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(data)) {
		name := prefix + k
		if len(validation.IsRelaxedEnvVarName(name)) > 0 {
			m.skipped = append(m.skipped, name)
			continue
		}
		m.values[name] = data[k]
	}
}

// explicit adds the entries of env in order, as each may refer to those before it.
func (m *maker) explicit() error {
	for _, e := range m.in.Container.Env {
		if e.ValueFrom == nil {
			m.values[e.Name] = Expand(e.Value, m.lookup)
			continue
		}
		v, ok, err := m.valueFrom(e.ValueFrom)
		if err != nil {
			return err
		}
		if ok {
			m.values[e.Name] = v
		}
	}
	return nil
}

func (m *maker) lookup(name string) (string, bool) {
	v, ok := m.values[name]
	return v, ok
}

func (m *maker) valueFrom(src *corev1.EnvVarSource) (string, bool, error) {
	switch {
	case src.FieldRef != nil:
		v, err := Field(m.in.Pod, src.FieldRef.FieldPath)
		return v, true, err
	case src.ResourceFieldRef != nil:
		c := m.in.Container
		if name := src.ResourceFieldRef.ContainerName; name != "" {
			if c = containerOf(m.in.Pod, name); c == nil {
				return "", false, fmt.Errorf("container %q of resourceFieldRef is not in the pod", name)
			}
		}
		v, err := Resource(c, src.ResourceFieldRef, m.in.Allocatable)
		return v, true, err
	case src.ConfigMapKeyRef != nil:
		return m.configMapKey(src.ConfigMapKeyRef)
	case src.SecretKeyRef != nil:
		return m.secretKey(src.SecretKeyRef)
	}
	return "", false, fmt.Errorf("valueFrom names no source that this node supports")
}

func (m *maker) configMapKey(ref *corev1.ConfigMapKeySelector) (string, bool, error) {
	obj, found, err := m.in.Objects.ConfigMap(m.in.Pod.Namespace, ref.Name)
	if err != nil {
		return "", false, err
	}
	if !found {
		if optional(ref.Optional) {
			return "", false, nil
		}
		return "", false, fmt.Errorf("configmap %q not found", ref.Name)
	}
	v, ok := obj.Data[ref.Key]
	if !ok && !optional(ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, m.in.Pod.Namespace, ref.Name)
	}
	return v, ok, nil
}

func (m *maker) secretKey(ref *corev1.SecretKeySelector) (string, bool, error) {
	obj, found, err := m.in.Objects.Secret(m.in.Pod.Namespace, ref.Name)
	if err != nil {
		return "", false, err
	}
	if !found {
		if optional(ref.Optional) {
			return "", false, nil
		}
		return "", false, fmt.Errorf("secret %q not found", ref.Name)
	}
	v, ok := obj.Data[ref.Key]
	if !ok && !optional(ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, m.in.Pod.Namespace, ref.Name)
	}
	return string(v), ok, nil
}

func optional(b *bool) bool { return b != nil && *b }

func containerOf(pod *corev1.Pod, name string) *corev1.Container {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == name {
			return &pod.Spec.Containers[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}

// ContainerOf returns the regular or init container called name, nil when there is none.
func ContainerOf(pod *corev1.Pod, name string) *corev1.Container { return containerOf(pod, name) }

// joinMap renders labels or annotations the way the downward API does.
func joinMap(m map[string]string) string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%v=%q", k, m[k])
	}
	return b.String()
}

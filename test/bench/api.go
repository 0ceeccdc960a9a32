package main

import (
	"context"
	"encoding/json"
	"fmt"

	"canopus/test/plane"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// step is one kind of request, sent once per object.
type step struct {
	name string
	do   func(ctx context.Context, i int) error
}

// apiSteps are the requests of one ConfigMap's life.
func apiSteps(k kubernetes.Interface, ns string) []step {
	maps := k.CoreV1().ConfigMaps(ns)
	return []step{
		{"api.create", func(ctx context.Context, i int) error {
			_, err := maps.Create(ctx, configMap(i), metav1.CreateOptions{})
			return err
		}},
		{"api.get", func(ctx context.Context, i int) error {
			_, err := maps.Get(ctx, configMapName(i), metav1.GetOptions{})
			return err
		}},
		{"api.update", func(ctx context.Context, i int) error {
			o := configMap(i)
			o.Data["k2"] = "y"
			_, err := maps.Update(ctx, o, metav1.UpdateOptions{})
			return err
		}},
		{"api.patch", func(ctx context.Context, i int) error {
			_, err := maps.Patch(ctx, configMapName(i), types.MergePatchType, []byte(`{"data":{"k3":"z"}}`), metav1.PatchOptions{})
			return err
		}},
		{"api.delete", func(ctx context.Context, i int) error {
			return maps.Delete(ctx, configMapName(i), metav1.DeleteOptions{})
		}},
	}
}

// measureAPI is the rate of single requests, each beside what the same client reaches against constant answers.
func measureAPI(ctx context.Context, b *bench) error {
	stub, err := b.startStub(ctx)
	if err != nil {
		return err
	}
	defer stub.stop()
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	against := apiSteps(stub.client, ns)
	for i, step := range apiSteps(s.Proto, ns) {
		limit, _, err := plane.Parallel(ctx, b.objects, b.clients, against[i].do)
		if err != nil {
			return fmt.Errorf("limit of %s: %w", step.name, err)
		}
		rate, took, err := plane.Parallel(ctx, b.objects, b.clients, step.do)
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		b.say(step.name+".rate", rate, "op/s", limit)
		b.say(step.name+".p50", took.Quantile(.5), "ms", 0)
		b.say(step.name+".p99", took.Quantile(.99), "ms", 0)
	}
	bare, err := etcdRate(ctx, b)
	if err != nil {
		return err
	}
	b.say("etcd.txn.rate", bare, "op/s", 0)
	return b.sayMemory(s, "rss.after-api")
}

// podSteps make pods and give them a status, as controllers and nodes do.
func podSteps(k kubernetes.Interface, ns string) ([]step, error) {
	status, err := json.Marshal(map[string]any{"status": map[string]any{"phase": "Running", "podIP": "10.0.0.1", "startTime": metav1.Now()}})
	if err != nil {
		return nil, err
	}
	pods := k.CoreV1().Pods(ns)
	name := func(i int) string { return fmt.Sprintf("p-%06d", i) }
	return []step{
		{"pod.create", func(ctx context.Context, i int) error {
			_, err := pods.Create(ctx, pod(name(i), nobody), metav1.CreateOptions{})
			return err
		}},
		{"pod.patchstatus", func(ctx context.Context, i int) error {
			_, err := pods.Patch(ctx, name(i), types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status")
			return err
		}},
	}, nil
}

// measureMany is the memory that many objects take.
func measureMany(ctx context.Context, b *bench) error {
	s, err := b.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return err
	}
	rate, _, err := plane.Parallel(ctx, b.many, b.clients, apiSteps(s.Proto, ns)[0].do)
	if err != nil {
		return err
	}
	b.say("many.create.rate", rate, "op/s", 0)
	return b.sayMemory(s, "rss.after-many")
}

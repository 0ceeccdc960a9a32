// Package apps holds the kinds of apps: workloads made of pods. What they share about selector, template and scale is in workload.go.
package apps

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/urfave/cli/v3"
)

// Labels by which containerd's CRI service knows an image as its own and keeps image garbage collection away from it.
const (
	labelManaged = "io.cri-containerd.image"
	labelPinned  = "io.cri-containerd.pinned"
)

// importImages is `containerd import-images ARCHIVE...`: OCI or docker archives, plain, gzip or zstd.
// For every image it prints one line "NAME DIGEST".
func importImages() *cli.Command {
	return &cli.Command{
		Name:      "import-images",
		Usage:     "Load image archives (OCI or docker format; plain, gzip or zstd) into the running daemon",
		ArgsUsage: "ARCHIVE...",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "socket", Required: true, Usage: "The daemon's gRPC socket"},
			&cli.StringFlag{Name: "namespace", Value: "k8s.io", Usage: "The containerd namespace to load into"},
			&cli.StringFlag{Name: "snapshotter", Required: true, Usage: "The snapshotter to unpack into"},
			&cli.BoolFlag{Name: "pinned", Usage: "Keep the images out of garbage collection"},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Minute, Usage: "Give up after this long"},
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			ctx, cancel := context.WithTimeout(namespaces.WithNamespace(ctx, cmd.String("namespace")), cmd.Duration("timeout"))
			defer cancel()
			client, err := containerd.New(cmd.String("socket"))
			if err != nil {
				return fmt.Errorf("connect to containerd at %s: %w", cmd.String("socket"), err)
			}
			defer client.Close()
			im := importer{client: client, snapshotter: cmd.String("snapshotter"), labels: map[string]string{labelManaged: "managed"}}
			if cmd.Bool("pinned") {
				im.labels[labelPinned] = "pinned"
			}
			var errs []error
			for _, path := range cmd.Args().Slice() {
				if err := im.load(ctx, path); err != nil {
					errs = append(errs, fmt.Errorf("import %s: %w", path, err))
				}
			}
			return errors.Join(errs...)
		},
	}
}

type importer struct {
	client      *containerd.Client
	snapshotter string
	labels      map[string]string
}

// load imports the archive at path, unpacks its images and names each also by its config digest, as CRI expects.
func (im importer) load(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := compression.DecompressStream(f)
	if err != nil {
		return err
	}
	defer plain.Close()
	// The lease keeps what is imported from containerd's own collection until the images that refer to it are stored.
	ctx, done, err := im.client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer done(ctx)
	imported, err := im.client.Import(ctx, plain,
		containerd.WithImageLabels(im.labels),
		containerd.WithImageRefTranslator(fullName),
		containerd.WithSkipMissing())
	if err != nil {
		return err
	}
	if len(imported) == 0 {
		return errors.New("the archive names no image: give it a name with the annotation org.opencontainers.image.ref.name")
	}
	for _, i := range imported {
		if err := im.finish(ctx, i); err != nil {
			return err
		}
		fmt.Println(i.Name, i.Target.Digest)
	}
	return nil
}

// finish unpacks i and stores the same image under its image ID.
func (im importer) finish(ctx context.Context, i images.Image) error {
	img := containerd.NewImage(im.client, i)
	if err := img.Unpack(ctx, im.snapshotter); err != nil {
		return fmt.Errorf("unpack %s: %w", i.Name, err)
	}
	config, err := img.Config(ctx)
	if err != nil {
		return fmt.Errorf("read the config of %s: %w", i.Name, err)
	}
	byID := images.Image{Name: config.Digest.String(), Target: i.Target, Labels: im.labels}
	if _, err = im.client.ImageService().Create(ctx, byID); errdefs.IsAlreadyExists(err) {
		_, err = im.client.ImageService().Update(ctx, byID)
	}
	if err != nil {
		return fmt.Errorf("store %s by its id: %w", i.Name, err)
	}
	return nil
}

// fullName completes a short name the way docker does ("busybox" is docker.io/library/busybox:latest). Empty: no name.
func fullName(ref string) string {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ""
	}
	return named.String()
}

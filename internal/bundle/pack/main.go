// Command pack makes, at build time, what package bundle embeds, and the image that tests run.
//
//	pack bundle -out F -pause P -demo D PROGRAM...   images and programs into F, its digest beside it
//	pack test-image -out F -busybox B PROGRAM...     an OCI archive with busybox and programs
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"canopus/internal/ociimage"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("say what to make: bundle or test-image")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	out := flags.String("out", "", "file to write")
	pause := flags.String("pause", "", "the pause program")
	demo := flags.String("demo", "", "the demo program")
	busybox := flags.String("busybox", "", "a statically linked busybox")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "bundle":
		return packBundle(*out, map[string]string{"pause": *pause, "demo": *demo}, flags.Args())
	case "test-image":
		img, err := ociimage.Busybox("canopus.local/test:1", *busybox, flags.Args()...)
		if err != nil {
			return err
		}
		return replace(*out, func(w io.Writer) error { return ociimage.Write(w, img) })
	}
	return fmt.Errorf("%s: say bundle or test-image", args[0])
}

// packBundle writes the archive to out and its digest to the same name with the ending .sha256.
func packBundle(out string, images map[string]string, programs []string) error {
	sum := sha256.New()
	err := replace(out, func(w io.Writer) error {
		packed, err := zstd.NewWriter(io.MultiWriter(w, sum), zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		tw := tar.NewWriter(packed)
		for _, name := range []string{"pause", "demo"} {
			if err := addImage(tw, name, images[name]); err != nil {
				return err
			}
		}
		for _, p := range programs {
			if err := addFile(tw, p); err != nil {
				return err
			}
		}
		return errors.Join(tw.Close(), packed.Close())
	})
	if err != nil {
		return err
	}
	digest := strings.TrimSuffix(out, ".tar.zst") + ".sha256"
	return replace(digest, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, hex.EncodeToString(sum.Sum(nil)))
		return err
	})
}

// addImage adds images/NAME.tar: canopus.local/NAME:1, an image of the one program.
func addImage(tw *tar.Writer, name, program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	img := ociimage.Image{
		Name:  "canopus.local/" + name + ":1",
		Files: []ociimage.File{{Path: name, Mode: 0o755, Data: data}},
		Run:   ociimage.Run{Entrypoint: []string{"/" + name}, User: "65535:65535"},
	}
	if name == "demo" {
		img.Run.Ports = map[string]struct{}{"8080/tcp": {}}
	}
	var archive bytes.Buffer
	if err := ociimage.Write(&archive, img); err != nil {
		return err
	}
	return add(tw, "images/"+name+".tar", 0o644, archive.Bytes())
}

func addFile(tw *tar.Writer, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return add(tw, filepath.Base(path), 0o755, data)
}

func add(tw *tar.Writer, name string, mode int64, data []byte) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

// replace writes path by way of a temporary file, so that a build that is interrupted leaves nothing half done.
func replace(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pack-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

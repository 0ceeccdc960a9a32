package ociimage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Busybox returns an image with the statically linked busybox at path and a link for each of its applets: a shell and
// tools for tests. Debian has one in its package busybox-static. The statically linked programs lie beside it in /bin.
func Busybox(name, path string, programs ...string) (Image, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Image{}, fmt.Errorf("read busybox: %w", err)
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return Image{}, fmt.Errorf("list the applets of %s: %w", path, err)
	}
	files := []File{
		{Path: "bin/"}, {Path: "etc/"}, {Path: "root/", Mode: 0o700}, {Path: "tmp/", Mode: 0o1777}, {Path: "var/"},
		{Path: "bin/busybox", Mode: 0o755, Data: data},
		{Path: "etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Path: "etc/group", Data: []byte("root:x:0:\nnogroup:x:65534:\n")},
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			files = append(files, File{Path: "bin/" + applet, Link: "busybox", Mode: 0o777})
		}
	}
	for _, program := range programs {
		data, err := os.ReadFile(program)
		if err != nil {
			return Image{}, fmt.Errorf("read a program of the image: %w", err)
		}
		files = append(files, File{Path: "bin/" + filepath.Base(program), Mode: 0o755, Data: data})
	}
	return Image{Name: name, Files: files, Run: Run{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}}, nil
}

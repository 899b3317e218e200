package deploy_test

import (
	"bufio"
	"debug/elf"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestImage: the Dockerfile makes an image whose viaduct starts as an ordinary
// user with nothing else in its file system, and whose health check finds it.
func TestImage(t *testing.T) {
	image := buildImage(t)
	config := image.config(t)
	if config.User != "65532:65532" || !slices.Equal(config.Entrypoint, []string{"/viaduct"}) ||
		!slices.Equal(config.Healthcheck.Test, []string{"CMD", "/viaduct", "health"}) {
		t.Errorf("the image's configuration is %+v", config)
	}
	files := image.mount(t)
	binary, err := elf.Open(filepath.Join(files, "viaduct"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("viaduct wants %v (%v), want a static binary", libraries, err)
	}
	roots, err := os.ReadFile(filepath.Join(files, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil || !strings.Contains(string(roots), "BEGIN CERTIFICATE") {
		t.Errorf("authorities for TLS upstreams: %v", err)
	}

	admin := freeAddr(t)
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command("/viaduct", args...)
		cmd.Dir, cmd.Env = "/", config.Env
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Chroot: files, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}, Pdeathsig: syscall.SIGKILL,
		}
		return cmd
	}
	viaduct := run("--upstream=sip:"+answering(t), "--listen=127.0.0.1:0", "--sip-listen=127.0.0.1:0", "--admin="+admin)
	waitFor(t, viaduct, "upstream answered")
	if said, err := run("health", "--admin="+admin).CombinedOutput(); err != nil {
		t.Errorf("viaduct health: %v: %s", err, said)
	}
	if _, err := os.Stat(filepath.Join(files, "var/lib/viaduct/token.key")); err != nil {
		t.Errorf("the keys of the tokens: %v", err)
	}
}

// An image as buildah has it, in a store of its own.
type image struct {
	store []string // the arguments that name the store
	name  string
}

// buildImage builds deploy/docker/Dockerfile. No base image can be pulled in a
// test, so the Go one is a shell and a go command that has built already, with
// the flags of the Dockerfile.
func buildImage(t *testing.T) image {
	t.Helper()
	dir := t.TempDir()
	dockerfile, err := os.ReadFile("docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`RUN CGO_ENABLED=0 .* go build (.*) -o /out/viaduct (\S+)\n`).FindStringSubmatch(string(dockerfile))
	if flags == nil {
		t.Fatal("the Dockerfile builds nothing")
	}
	build := exec.Command("go", append(append([]string{"build"}, strings.Fields(flags[1])...), "-o", filepath.Join(dir, "viaduct"), flags[2])...)
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	finish(t, build)

	for name, content := range map[string]string{
		"go": "#!/bin/sh\nmkdir -p /out && cp /bin/viaduct /out/viaduct\n",
		"Base": "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/mkdir\nCOPY busybox /bin/cp\n" +
			"COPY go viaduct /bin/\nCOPY ca-certificates.crt /etc/ssl/certs/\nENV PATH=/bin\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil { //nolint:gosec // a command
			t.Fatal(err)
		}
	}
	finish(t, exec.Command("cp", "/bin/busybox", "/etc/ssl/certs/ca-certificates.crt", dir))

	i := image{name: "localhost/viaduct", store: []string{
		"--root", filepath.Join(dir, "store"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs",
	}}
	i.buildah(t, "build", "--quiet", "--isolation", "chroot", "--format", "docker", "-t", "localhost/go", "-f", filepath.Join(dir, "Base"), dir)
	i.buildah(t, "build", "--quiet", "--isolation", "chroot", "--format", "docker", "--build-arg", "GO=localhost/go",
		"-t", i.name, "-f", "docker/Dockerfile", "..")
	return i
}

func (i image) buildah(t *testing.T, args ...string) string {
	t.Helper()
	return finish(t, exec.Command("buildah", append(slices.Clone(i.store), args...)...))
}

type imageConfig struct {
	User        string
	Env         []string
	Entrypoint  []string
	Healthcheck struct{ Test []string }
}

func (i image) config(t *testing.T) imageConfig {
	t.Helper()
	var inspected struct {
		Docker struct{ Config imageConfig }
	}
	if err := json.Unmarshal([]byte(i.buildah(t, "inspect", "--type", "image", i.name)), &inspected); err != nil {
		t.Fatal(err)
	}
	return inspected.Docker.Config
}

// mount returns the directory of a container's files.
func (i image) mount(t *testing.T) string {
	t.Helper()
	container := strings.TrimSpace(i.buildah(t, "from", i.name))
	return strings.TrimSpace(i.buildah(t, "mount", container))
}

// finish runs a command that must succeed and returns its output.
func finish(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, output, stderr.String())
	}
	return string(output)
}

// waitFor starts cmd, which is killed when the test ends, and returns once it
// has logged message.
func waitFor(t *testing.T, cmd *exec.Cmd, message string) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	deadline := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer deadline.Stop()
	var said []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), message) {
			return
		}
	}
	t.Fatalf("%s did not log %q:\n%s", cmd, message, strings.Join(said, "\n"))
}

// answering is the address of a SIP server that answers each request with 200.
func answering(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, headers, _ := strings.Cut(string(buf[:n]), "\r\n")
			_, _ = conn.WriteTo([]byte("SIP/2.0 200 OK\r\n"+headers), from)
		}
	}()
	return conn.LocalAddr().String()
}

// freeAddr is an address of loopback at which nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return fmt.Sprint(listener.Addr())
}

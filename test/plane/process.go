package plane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is one canopus that can be ended and started again.
type process struct {
	dir, binary string
	logName     string // file in dir with what it printed
	args        []string
	cmd         *exec.Cmd
	ended       chan struct{}
}

func (p *process) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

func (p *process) start() error {
	log, err := os.OpenFile(p.path(p.logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.binary, p.args...) // ended by Down, which gives it time
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for us; we end it
	ended := make(chan struct{})
	p.ended = ended
	if err := p.cmd.Start(); err != nil {
		return err
	}
	cmd := p.cmd
	go func() { _ = cmd.Wait(); close(ended) }() // how it ended is in its log
	return nil
}

// Ended is closed when the process has ended.
func (p *process) Ended() <-chan struct{} { return p.ended }

func (p *process) alive() error {
	select {
	case <-p.ended:
		return errors.New("it has ended")
	default:
		return nil
	}
}

// Down ends the process if it was ever started, by force if it takes longer than it should.
func (p *process) Down() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	t := time.NewTimer(20 * time.Second)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
		fmt.Fprintln(os.Stderr, "canopus", p.args[0], "did not end within 20 s of SIGTERM")
		p.Kill()
	}
}

// Kill ends the process as a power cut would: with SIGKILL.
func (p *process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

// PID is that of the process.
func (p *process) PID() int { return p.cmd.Process.Pid }

// LastWords is the end of what it printed.
func (p *process) LastWords() string {
	data, err := os.ReadFile(p.path(p.logName))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}

package cli

import (
	"fmt"
	"strings"
)

// unitMark is the first line of a unit that we wrote; one without it is not ours to change or remove.
const unitMark = "# Written by canopus up; removed by canopus reset."

// Unit returns the systemd unit that runs a command. Containers must outlive the server, so only its own process is ended
// with it and it may make cgroups of its own.
func Unit(command []string, log string) string {
	quoted := make([]string, len(command))
	for i, c := range command {
		quoted[i] = quoteUnit(c)
	}
	return fmt.Sprintf(`%s
[Unit]
Description=Canopus: Kubernetes in one binary
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart=%s
Restart=always
RestartSec=50ms
RestartSteps=7
RestartMaxDelaySec=5s
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStopSec=60
StandardOutput=append:%s
StandardError=inherit

[Install]
WantedBy=multi-user.target
`, unitMark, strings.Join(quoted, " "), log)
}

// quoteUnit writes an argument so that systemd reads it back as it is: it splits at blanks and replaces % and $.
func quoteUnit(arg string) string {
	arg = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(arg)
	if arg == "" || strings.ContainsAny(arg, " \t'\"\\;") {
		return `"` + arg + `"`
	}
	return arg
}

// OurUnit says whether a unit file was written by us.
func OurUnit(content string) bool { return strings.HasPrefix(content, unitMark) }

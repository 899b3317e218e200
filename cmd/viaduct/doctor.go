package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"viaduct/cmd/viaduct/doctor"
	"viaduct/gateway"
)

// doctorFlags are those of `viaduct doctor`.
type doctorFlags struct {
	upstreamFlag
	User         string `group:"SIP side" placeholder:"USER[@DOMAIN]" help:"With --password-file: a test account that nobody uses. Without this flag: what needs one is not tried."`
	PasswordFile string `group:"SIP side" placeholder:"FILE" help:"The password of --user, alone in its first line."`
	upstreamTLSFlags
	sipFlags
	rtpengineFlag
}

func (d *doctorFlags) validate() error {
	switch {
	case d.User != "" && d.PasswordFile == "":
		return errors.New("--user: needs --password-file too")
	case d.User == "" && d.PasswordFile != "":
		return errors.New("--password-file: needs --user too")
	case strings.ContainsAny(d.User, " \t\r\n<>\""):
		return fmt.Errorf("--user: %q is not user or user@domain", d.User)
	}
	return nil
}

// do prints what it finds of each upstream. The status is that of a failure if
// anything stands in the way of switching viaduct on.
func (d *doctorFlags) do(ctx context.Context, stdout io.Writer) (status int, err error) {
	password, err := d.password()
	if err != nil {
		return exitUsage, err
	}
	doc, err := doctor.New(doctor.Config{Gateway: d.config(), User: d.User, Password: password})
	if err != nil {
		return exitUsage, err
	}
	status = exitOK
	for _, report := range doc.Run(ctx) {
		if err := report.Print(stdout); err != nil {
			return exitFailed, err
		}
		if report.Blocked() {
			status = exitFailed
		}
	}
	return status, nil
}

func (d *doctorFlags) password() (string, error) {
	if d.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(d.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(first, "\r"), nil
}

// config is what of the gateway's configuration the doctor needs.
func (d *doctorFlags) config() gateway.Config {
	return gateway.Config{
		Upstreams:    d.Upstream,
		UpstreamCA:   d.UpstreamCA,
		UpstreamCert: d.UpstreamCert,
		UpstreamKey:  d.UpstreamKey,
		SIPListen:    d.SIPListen,
		SIPTLSListen: d.SIPTLSListen,
		SIPTLSCert:   d.SIPTLSCert,
		SIPTLSKey:    d.SIPTLSKey,
		Advertise:    d.Advertise,
		AdvertiseTLS: d.AdvertiseTLS,
		AllowPeers:   d.AllowPeer,
		RTPEngines:   d.RTPEngine,
	}
}

package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
)

// TestDoctorSample: the page shows what the doctor prints of such a SIP server.
func TestDoctorSample(t *testing.T) {
	_, rest, _ := strings.Cut(readProjectFile(t, doctorPage), "<!-- sample -->\n```\n")
	sample, _, _ := strings.Cut(rest, "```\n")
	pbx := startDoctorPBX(t, doctorScript{maxDatagram: 1500, expires: 120, stranger: "180 Ringing"})
	printed, _ := doctorPrints(t.Context(), t, append(doctorAccount(t), "--upstream=sip:"+pbx.ip)...)
	printed = strings.NewReplacer(pbx.ip, "10.0.0.5", doctorUser, "1001").Replace(printed)
	printed = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(printed, "10.0.0.7:5070")
	printed = strings.ReplaceAll(printed, "127.0.0.1", "10.0.0.7")
	printed = regexp.MustCompile(`after \S+`).ReplaceAllString(printed, "after 1ms")
	printed = regexp.MustCompile(`whole, \d+ characters`).ReplaceAllString(printed, "whole, 59 characters")
	if printed != sample {
		t.Errorf("%s should show\n%s", doctorPage, printed)
	}
}

// TestDocsDoctorFlags: the table of the doctor's own flags is what the code says.
func TestDocsDoctorFlags(t *testing.T) {
	parser, _, err := newParser(new(commands), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	gateways := map[string]bool{}
	for _, flag := range model(t) {
		gateways[flag.Name] = true
	}
	table := "| flag | meaning |\n|---|---|\n"
	for _, command := range parser.Model.Children {
		if command.Name != "doctor" {
			continue
		}
		for _, flag := range command.Flags {
			if !gateways[flag.Name] {
				table += fmt.Sprintf("| `%s` | %s |\n", flag, cell(flag.Help))
			}
		}
	}
	wantSectionIn(t, doctorPage, "flags", table)
}

// doctorPage is the page about the doctor.
const doctorPage = "deploy/doctor.md"

package doctor

import (
	"context"

	"viaduct/gateway/rtpengine"
)

// checkEngines asks every rtpengine how it is.
func (d *Doctor) checkEngines(ctx context.Context) *Report {
	report := &Report{Subject: "rtpengine"}
	for _, address := range d.cfg.Gateway.RTPEngines {
		if err := rtpengine.Ping(ctx, address); err != nil {
			report.add(Blocker, address, reason(err), "--rtpengine with the listen-ng of one that runs: without, calls are answered 503")
			continue
		}
		report.ok(address, "answers")
	}
	return report
}

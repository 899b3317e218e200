package e2e

import (
	"context"
	"fmt"
)

// A Cycle is one kind of call: what the sipp at the one end plays, and what the
// user of the phone at the other end does.
type Cycle struct {
	Name   string
	Down   bool // the PBX calls the phone; otherwise the phone calls
	Share  int  // of ten calls
	Ladder []string
	Play   func(ctx context.Context, c *cycling) error
}

// cycles are all kinds. Each end does as a person would: it lets the phone ring
// for a while, and talks before it puts the call on hold. (sipp takes any ACK for
// the one that it waits for, that of an earlier INVITE too.)
var cycles = []*Cycle{
	{
		Name: "out: hold, BYE", Share: 3,
		Ladder: []string{"recv-invite", "send-180", "ring", "send-200", "recv-hold", "recv-bye", "name-call"},
		Play: func(ctx context.Context, c *cycling) error {
			return inOrder(
				func() error { return c.wantStatus(ctx, "INVITE", 200) },
				func() error { return c.wantACKs(ctx, Up, 1) },
				func() error { return c.act("talk") },
				func() error { return c.want(ctx, "talked") },
				func() error { return c.ask(ctx, "hold", "INVITE", 200) },
				func() error { return c.wantACKs(ctx, Up, 2) },
				func() error { return c.ask(ctx, "bye", "BYE", 200) },
				func() error { return c.want(ctx, "ended") },
			)
		},
	},
	{
		Name: "out: 486", Share: 1,
		Ladder: []string{"recv-invite", "send-180", "ring", "send-486", "recv-ack", "name-call"},
		Play: func(ctx context.Context, c *cycling) error {
			return inOrder(
				func() error { return c.wantStatus(ctx, "INVITE", 486) },
				func() error { return c.want(ctx, "ended") },
			)
		},
	},
	{
		Name: "out: CANCEL", Share: 1,
		Ladder: []string{"recv-invite", "send-180", "recv-cancel", "name-call"},
		Play: func(ctx context.Context, c *cycling) error {
			return inOrder(
				func() error { return c.wantRinging(ctx, Down) },
				func() error { return c.ask(ctx, "cancel", "INVITE", 487) },
				func() error { return c.want(ctx, "ended") },
			)
		},
	},
	{
		Name: "in: hold, BYE", Down: true, Share: 3,
		Ladder: []string{"send-invite", "recv-200", "send-ack", "wait", "send-hold", "wait", "send-bye", "name-call"},
		Play: func(ctx context.Context, c *cycling) error {
			return inOrder(
				func() error { return c.want(ctx, "rang") },
				func() error { return c.act("answer") },
				func() error { return c.wantACKs(ctx, Down, 1) },
				func() error { return c.want(ctx, "acknowledged") },
				func() error { return c.proceed() },
				func() error { return c.wantACKs(ctx, Down, 2) },
				func() error { return c.proceed() },
				func() error { return c.want(ctx, "ended") },
			)
		},
	},
	{
		Name: "in: 486", Down: true, Share: 1,
		Ladder: []string{"send-invite", "recv-486", "name-call"},
		Play: func(ctx context.Context, c *cycling) error {
			return inOrder(
				func() error { return c.want(ctx, "rang") },
				func() error { return c.act("reject") },
				func() error { return c.want(ctx, "ended") },
			)
		},
	},
	{
		Name: "in: CANCEL", Down: true, Share: 1,
		Ladder: []string{"send-invite", "wait-ringing", "send-cancel", "name-call"},
		Play: func(ctx context.Context, c *cycling) error {
			return inOrder(
				func() error { return c.want(ctx, "rang") },
				func() error { return c.proceed() },
				func() error { return c.want(ctx, "ended") },
			)
		},
	},
}

// inOrder does one step after the other until one fails.
func inOrder(steps ...func() error) error {
	for number, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", number+1, err)
		}
	}
	return nil
}

// A cycling is one call of a Cycle.
type cycling struct {
	kind  *Cycle
	run   *lossRun
	phone *FleetPhone
	id    string // Call-ID
	sipp  *Sipp
}

// play makes the call and returns what went wrong.
func (c *cycling) play(ctx context.Context) (err error) {
	if c.id, err = c.begin(ctx); err != nil {
		return err
	}
	if err := c.kind.Play(ctx, c); err != nil {
		return err
	}
	_, err = c.sipp.Steps.next(ctx, 0, func(step string) bool { return step == "call "+c.id })
	if err != nil {
		return fmt.Errorf("sipp: %w", err)
	}
	return nil
}

// begin returns the Call-ID once there is a call.
func (c *cycling) begin(ctx context.Context) (string, error) {
	if !c.kind.Down {
		return c.phone.call(ctx, c.sipp.URI())
	}
	event, err := c.phone.await(ctx, 0, "incoming")
	return event.Call, err
}

// act has the phone's user do something.
func (c *cycling) act(op string) error {
	if op == "reject" {
		c.phone.reject(c.id, 486)
	} else {
		c.phone.do(op, c.id)
	}
	return nil
}

// ask is act for what ends with a response to a request of that method.
func (c *cycling) ask(ctx context.Context, op, method string, status int) error {
	mark := c.phone.Events.Mark()
	c.phone.do(op, c.id)
	return c.wantStatusAfter(ctx, mark, method, status)
}

// proceed lets sipp go on after its step "wait".
func (c *cycling) proceed() error {
	c.sipp.Continue(c.run.t, c.id)
	return nil
}

// want waits for an event of the call at the phone.
func (c *cycling) want(ctx context.Context, name string) error {
	_, err := c.phone.Events.next(ctx, 0, func(e FleetEvent) bool { return e.Call == c.id && e.Name == name })
	if err != nil {
		return fmt.Errorf("waiting for %q: %w", name, err)
	}
	return nil
}

func (c *cycling) wantStatus(ctx context.Context, method string, status int) error {
	return c.wantStatusAfter(ctx, 0, method, status)
}

func (c *cycling) wantStatusAfter(ctx context.Context, mark int, method string, status int) error {
	got, err := c.phone.awaitResponse(ctx, mark, c.id, method)
	if err == nil && got != status {
		err = fmt.Errorf("%s: answered %d, want %d", method, got, status)
	}
	return err
}

// wantACKs waits until the ACKs of n INVITEs that were answered with 2xx have
// passed the relay that way.
func (c *cycling) wantACKs(ctx context.Context, direction Direction, n int) error {
	accepted, acknowledged := map[string]bool{}, map[string]bool{}
	_, err := c.run.impairer.Call(c.id).next(ctx, 0, func(d Datagram) bool {
		number := cseqNumber(d.Message)
		switch {
		case d.Method() == "INVITE" && d.Status()/100 == 2:
			accepted[number] = true
		case d.Request("ACK") && d.Direction == direction && !d.Lost:
			acknowledged[number] = true
		}
		complete := 0
		for number := range accepted {
			if acknowledged[number] {
				complete++
			}
		}
		return complete == n
	})
	if err != nil {
		return fmt.Errorf("waiting for ACK %d %s: %w", n, direction, err)
	}
	return nil
}

// wantRinging waits until a 180 came to the relay from that side, whatever
// became of it.
func (c *cycling) wantRinging(ctx context.Context, direction Direction) error {
	_, err := c.run.impairer.Call(c.id).next(ctx, 0, func(d Datagram) bool {
		return d.Direction == direction && d.Response(180, "INVITE")
	})
	if err != nil {
		return fmt.Errorf("waiting for a 180: %w", err)
	}
	return nil
}

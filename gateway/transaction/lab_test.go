package transaction

import "net/netip"

// server is where the SIP server is in tests.
var server = Peer{Addr: netip.MustParseAddrPort("192.0.2.1:5060")}

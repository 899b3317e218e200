package rewrite

// Routes says which Record-Route a message has, 0 for none. RFC 3261 12.1.1 has a
// UAS "copy all Record-Route header field values from the request into the
// response": what else is there would be the browser's own, by which the SIP
// server would send the call's requests elsewhere.
type Routes uint64

// Routes is a keyed hash of the Record-Route values, which leaves white space out:
// stacks unfold them and give each a line of its own.
func (k *Key) Routes(m *Message) Routes {
	if !m.Has(RecordRoute) {
		return 0
	}
	s := k.sealer(domainRoutes)
	defer k.release(s)
	values := m.Values(RecordRoute)
	for {
		v, ok := values.Next()
		if !ok {
			break
		}
		for _, c := range m.Text(v) {
			if !isSpace(c) {
				s.msg = append(s.msg, c)
			}
		}
		s.msg = append(s.msg, 0) // which is in no value
	}
	if values.Bad() {
		return 0
	}
	return Routes(readOrigin(s.hash()))
}

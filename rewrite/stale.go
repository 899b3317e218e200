package rewrite

// Stale reports whether a 401 or 407 only asks for the same credentials under
// another nonce. RFC 7616 3.3: stale is "a case-insensitive flag indicating that
// the previous request from the client was rejected because the nonce value was
// stale"; then the password was right.
func (m *Message) Stale() bool {
	for i := range m.lines[:m.count] {
		if l := &m.lines[i]; l.kind == WWWAuthenticate || l.kind == ProxyAuthenticate {
			if staleIn(m.Raw[l.valueLo:l.valueHi]) {
				return true
			}
		}
	}
	return false
}

// staleIn looks for stale=true among the parameters of a challenge, with or
// without quotes, and not inside another one's value.
func staleIn(challenge []byte) bool {
	for pos := 0; pos < len(challenge); {
		switch c := challenge[pos]; {
		case c == '"':
			end, ok := quotedEnd(challenge, pos)
			if !ok {
				return false
			}
			pos = end
		case tokenChar[c]:
			name := pos
			for pos < len(challenge) && tokenChar[challenge[pos]] {
				pos++
			}
			if equalFold(challenge[name:pos], "stale") && saysTrue(challenge[pos:]) {
				return true
			}
		default:
			pos++
		}
	}
	return false
}

// saysTrue reports whether text begins with `=true` or `="true"`.
func saysTrue(text []byte) bool {
	pos := skipSpace(text, 0)
	if pos == len(text) || text[pos] != '=' {
		return false
	}
	if pos = skipSpace(text, pos+1); pos < len(text) && text[pos] == '"' {
		pos++
	}
	end := pos
	for end < len(text) && tokenChar[text[end]] {
		end++
	}
	return equalFold(text[pos:end], "true")
}

// Package rewrite holds the gateway's pure functions on SIP message bytes:
// scan a message into spans, splice a few of them, copy every other byte. It
// opens no socket, keeps no state and needs only the standard library.
//
// No state is possible because every fact needed to route a message travels
// inside the message, in three places where SIP promises to bring it back:
//
//	browser                       gateway                              PBX
//	   |                             |                                  |
//	   | INVITE                      | INVITE                           |
//	   | Via: SIP/2.0/WSS k3.invalid | Via: SIP/2.0/UDP GW;rport        |
//	   |      ;branch=z9hG4bK4711    |      ;branch=z9hG4bK<up seal>    |
//	   | Contact: <sip:x7@k3.invalid | Contact: <sip:<token>@GW>        |
//	   |      ;transport=ws>         |                                  |
//	   |---------------------------->|--------------------------------->|
//	   |                             |                                  |
//	   | 200                         | 200                              |
//	   | Via: SIP/2.0/WSS k3.invalid | Via: SIP/2.0/UDP GW...<up seal>  |
//	   |      ;branch=z9hG4bK4711    |                                  |
//	   |<----------------------------|<---------------------------------|
//	   |                             |                                  |
//	   | BYE sip:x7@k3.invalid...    | BYE sip:<token>@GW               |
//	   | Via: SIP/2.0/WSS GW         | Via: SIP/2.0/UDP pbx             |
//	   |   ;branch=z9hG4bK<mac>      |      ;branch=z9hG4bK-77          |
//	   |   ;<down seal>              |                                  |
//	   | Via: SIP/2.0/UDP pbx...     |                                  |
//	   |<----------------------------|<---------------------------------|
//	   |                             |                                  |
//	   | 200                         | 200                              |
//	   | both Vias                   | Via: SIP/2.0/UDP pbx...          |
//	   |---------------------------->|--------------------------------->|
//
// The token names a client and hides its Contact. The up seal carries the
// browser's own Via value, so that the browser gets it back byte for byte, and
// says which client the response is for. The down seal says where the
// browser's response goes. A restarted gateway, or another with the same keys,
// reads all three.
//
// # Sealing
//
// The three are sealed alike, by a synthetic IV in the manner of RFC 5297, with
// HMAC-SHA-256 for S2V. From the plaintext and the context it belongs to,
//
//	tag        = HMAC-SHA-256(mac key, domain || context || plaintext), cut
//	keystream  = AES-256(enc key, domain || tag || 0... || block number), ...
//	ciphertext = plaintext XOR keystream
//
// and tag || ciphertext is written in base 32 with the digits a-z2-7, lower
// case and without padding: header fields and user parts carry it unescaped
// and a PBX that compares without case cannot confuse two of them.
//
//   - The same input gives the same text: a branch has to be a pure function of
//     its message, and a Contact has to stay one binding.
//   - The tag is both IV and proof, so that a changed character, a cut, another
//     key, another domain (a token pasted as a seal) or another context (a seal
//     pasted into another call) does not verify, and 40 characters suffice.
//     There is one spelling only: other case and non-zero spare bits fail.
//   - Encryption keeps a browser's Contact from its peers and the PBX's address
//     from browsers. When two plaintexts meet in one tag (expected once in 2^24
//     tokens or 2^32 seals under one key), those two texts show where their
//     plaintexts differ; nothing becomes easier to forge.
//
// A context is a sequence of texts, each behind its length as a varint, and of
// numbers of fixed width, big endian: no two contexts read alike. What is only
// hashed (origin, client id, branch, To tag, routes) is such a context behind a domain
// of its own. Both keys come from one 32-byte key of the key file, by
// HMAC-SHA-256 under a label.
//
// # Token
//
// The user part of the Contact that the PBX sees; no context, for it must open
// in any message. 40 characters for JsSIP and SIP.js, 80 at most: PBXs keep
// Contacts in columns of that width.
//
//	 0      6        12                       25
//	+------+--------+-----------------------+
//	| tag  | origin | contact               |
//	+------+--------+-----------------------+
//	          `----- encrypted -----´
//
//	tag      6 bytes. Whoever makes one up is refused but once in 2^48.
//	origin   6 bytes. Keyed hash of the address-of-record and the Via host: two
//	         users whose phones send the same fixed Contact stay apart. As long
//	         as the tag, because a chance meeting of two such users (48 bits: 1
//	         in 56000 among 100000 of them) would hand over the calls of one.
//	contact  The Contact URI, all of it. First nibble:
//	         0-5    `sip:`, 8 digits of [0-9a-v], `@`, 12 such digits and
//	                `.invalid`, 5 bits a digit; the nibble names what follows:
//	                0 nothing, 1 `;transport=ws`, 2 `;transport=ws;ob`,
//	                3 `;transport=wss`, 4 `;transport=wss;ob`, 5 `;ob`
//	         6-11   `sip:anonymous@anonymous.invalid`, what both stacks send for
//	                an anonymous caller, and what 0-5 name in their order; then 4
//	                zero bits
//	         13-15  13 nothing, 14 `sips:`, 15 `sip:`; the rest of the text in
//	                the 6-bit code of codebook.go
//	         12 is not in use and does not open.
//
// The client id is not in the token but is a keyed hash of origin, Contact user
// and Contact host: JsSIP registers one URI and calls with another that adds
// `;ob`, and is one client.
//
// # Up seal
//
// In the branch of our Via on requests to the PBX; the context is Call-ID and
// CSeq number, which INVITE, its ACK and its CANCEL share.
//
//	 0      8       9
//	+------+-------+----------+--------+----------+---------+-----+
//	| tag  | flags | [client] | [flow] | [origin] | [media] | via |
//	+------+-------+----------+--------+----------+---------+-----+
//	        `--------------------- encrypted ------------------´
//
//	tag      8 bytes. A response that we did not ask for reaches no browser.
//	flags    bit 0 client present, bit 1 flow present, bits 2-4 what the
//	         request does to a registration, bit 5 the gateway's own request,
//	         bit 6 media present; bit 7 is zero
//	client   8 bytes. Who gets the response, on whatever connection it has then.
//	flow     8 bytes. The connection, where the response belongs to it alone: a
//	         REGISTER, or a request of no client that is known to be there.
//	origin   6 bytes, only with a REGISTER: its 200 lists all bindings of the
//	         address-of-record, and only the client's own are restored.
//	media    1 byte: bit 0 the request has no offer, bit 1 it is in a dialog, bit
//	         2 its offer was left as it came, bit 3 an engine is named; bits 4-7
//	         are zero, the byte is not. Then, if one is named, 2 bytes not all
//	         zero, a hash of its name: it is not the first choice for the Call-ID.
//	         Absent from the INVITE that begins a call with an offer in the common
//	         way, so that its CANCEL has the same seal.
//	via      The browser's Via value in the 6-bit code; absent in the gateway's
//	         own. PBXs reorder the parameters of Vias, a branch they keep.
//
// # Down seal
//
// In a parameter of our Via on requests to the browser; the context is
// the next Via's sent-by and branch, Call-ID and CSeq number.
//
//	 0      8       9        10
//	+------+-------+--------+--------+----------+---------+----------+---------+
//	| tag  | proto | length | source | upstream | [media] | [routes] | [token] |
//	+------+-------+--------+--------+----------+---------+----------+---------+
//	        `----------------------------- encrypted ------------------------´
//
//	tag      8 bytes. A browser that makes up responses has us send nothing.
//	proto    1 byte. The transport that the request came by.
//	length   1 byte. Of source; bit 6 routes present, bit 7 media present
//	source   Address of 4 or 16 bytes, its zone if any, port in 2 bytes (little
//	         endian). Where the response goes (RFC 3261 18.2.2).
//	upstream 4 bytes. Whose connection to use when that one is gone.
//	media    As in an up seal.
//	routes   6 bytes, not all zero. A keyed hash of the request's Record-Route,
//	         which the response may have and no other.
//	token    The token that the request came by, its characters as bytes again.
//	         It becomes the Contact of the response.
//
// # Branch and To tag
//
// The branch of our Via on requests to the browser is the magic cookie and 10
// bytes of a keyed hash over what the down seal's context is; the To tag of a
// response that the gateway makes itself is 6 bytes of another. A CANCEL and
// the ACK of a non-2xx get those of their INVITE, after a restart too.
package rewrite

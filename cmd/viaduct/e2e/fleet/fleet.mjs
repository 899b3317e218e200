// Runs many SIP.js user agents for the Go tests. Commands come in as lines of
// JSON, {op, user, call, …}; what happens goes out as lines {user, event, …}.
// A call's name is its Call-ID.
//
//   phones   {users, server, domain, reconnectMs, ringMs}  the user agents, each on a connection of its own
//   register {user}
//   call     {user, target}
//   answer, hold, bye, cancel {user, call}
//   talk     {user, call}          the event "talked" comes a second later
//   reject   {user, call, status}
//   info     {user, call}
//
// A phone that loses its connection comes back after reconnectMs, give or take
// a fifth, and registers again.

import { createInterface } from 'node:readline';
import { Inviter, Registerer, SessionState, UserAgent } from 'sip.js';
import WebSocket from 'ws';

globalThis.WebSocket = WebSocket;

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

/** A session description that the peer may believe: nobody sends to it. */
const sdp = (direction) =>
  [
    'v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 'c=IN IP4 127.0.0.1', 't=0 0',
    'm=audio 9 UDP/TLS/RTP/SAVPF 0', 'a=rtpmap:0 PCMU/8000', `a=${direction}`, '',
  ].join('\r\n');

/** A session description handler that has no media behind it. */
const fixedDescriptions = () => ({
  close() {},
  hasDescription: (contentType) => contentType === 'application/sdp',
  getDescription: async ({ hold } = {}) => ({ body: sdp(hold ? 'sendonly' : 'sendrecv'), contentType: 'application/sdp' }),
  setDescription: async () => {},
  rollbackDescription: async () => {},
  sendDtmf: () => false,
});

function uri(text) {
  const parsed = UserAgent.makeURI(text);
  if (!parsed) throw new Error(`not a URI: ${text}`);
  return parsed;
}

class Phone {
  #calls = new Map();

  constructor(user, { server, domain, reconnectMs, ringMs }) {
    this.user = user;
    this.reconnectMs = reconnectMs;
    this.ringMs = ringMs;
    this.agent = new UserAgent({
      uri: uri(`sip:${user}@${domain}`),
      authorizationUsername: user,
      authorizationPassword: `secret-${user}`,
      transportOptions: { server },
      gracefulShutdown: false,
      logBuiltinEnabled: false,
      sessionDescriptionHandlerFactory: fixedDescriptions,
      delegate: {
        onConnect: () => this.report('connected'),
        onDisconnect: (error) => {
          this.report('disconnected');
          if (error) this.comeBackLater();
        },
        onInvite: (invitation) => this.ring(invitation),
        onMessage: (message) => this.execute(message.request, () => message.accept()),
      },
    });
    this.registerer = this.newRegisterer();
    this.tap();
  }

  report(event, fields = {}) {
    say({ user: this.user, event, ...fields });
  }

  /** Reports every message as the stack gets it. */
  tap() {
    const { transport } = this.agent;
    const deliver = transport.onMessage;
    transport.onMessage = (text) => {
      this.report('received', { text });
      deliver(text);
    };
  }

  newRegisterer() {
    return new Registerer(this.agent, { expires: 600 });
  }

  comeBackLater() {
    setTimeout(() => this.comeBack(), this.reconnectMs * (0.8 + 0.4 * Math.random()));
  }

  /** SIP.js leaves it to the application to reconnect and to register again. */
  async comeBack() {
    try {
      await this.agent.reconnect();
    } catch {
      this.comeBackLater();
      return;
    }
    // A registerer waits 32 s for an answer that the lost connection will not bring.
    if (this.registerer.waiting) this.registerer = this.newRegisterer();
    this.register();
  }

  register() {
    this.registerer.register({
      requestDelegate: {
        onAccept: () => this.report('registered'),
        onReject: ({ message }) => this.report('registrationFailed', { status: message.statusCode }),
      },
    }).catch((error) => this.report('error', { text: String(error) }));
  }

  /** Reports a request that the application acts upon. */
  execute({ method, callId, cseq }, act) {
    this.report('executed', { call: callId, method, cseq });
    act();
  }

  ring(invitation) {
    const call = this.watch(invitation);
    this.execute(invitation.request, () => this.report('incoming', { call }));
    setTimeout(() => this.report('rang', { call }), this.ringMs);
  }

  watch(session) {
    const call = session.request.callId;
    this.#calls.set(call, session);
    session.stateChange.addListener((state) => {
      if (state === SessionState.Established) this.report('established', { call });
      if (state === SessionState.Terminated) this.report('ended', { call });
    });
    session.delegate = {
      onAck: () => this.report('acknowledged', { call }),
      onBye: (bye) => this.execute(bye.request, () => bye.accept()),
      onInfo: (info) => this.execute(info.request, () => info.accept()),
      onInvite: (request) => this.execute(request, () => {}),
    };
    return call;
  }

  /** Reports every response to a request in the call. */
  outcome(call) {
    const answered = ({ message }) => this.report('response', { call, method: message.method, status: message.statusCode });
    return { onProgress: answered, onAccept: answered, onReject: answered, onRedirect: answered };
  }

  call(target) {
    const inviter = new Inviter(this.agent, uri(target));
    const call = this.watch(inviter);
    this.report('calling', { call });
    return inviter.invite({ requestDelegate: this.outcome(call) });
  }

  session(call) {
    const session = this.#calls.get(call);
    if (!session) throw new Error(`no call ${call}`);
    return session;
  }

  answer(call) {
    return this.session(call).accept();
  }

  reject(call, status) {
    return this.session(call).reject({ statusCode: status });
  }

  talk(call) {
    setTimeout(() => this.report('talked', { call }), 1000);
  }

  hold(call) {
    return this.session(call).invite({
      sessionDescriptionHandlerOptions: { hold: true },
      requestDelegate: this.outcome(call),
    });
  }

  info(call) {
    return this.session(call).info({
      requestOptions: { body: { contentDisposition: 'render', contentType: 'application/x-e2e', content: 'info' } },
      requestDelegate: this.outcome(call),
    });
  }

  bye(call) {
    return this.session(call).bye({ requestDelegate: this.outcome(call) });
  }

  cancel(call) {
    return this.session(call).cancel();
  }
}

const phones = new Map();

function make({ users, ...options }) {
  for (const user of users) phones.set(user, new Phone(user, options));
  for (const phone of phones.values()) {
    phone.agent.start().catch((error) => phone.report('error', { text: String(error) }));
  }
}

async function perform({ op, user, call, target, status, ...options }) {
  try {
    if (op === 'phones') make(options);
    else if (op === 'call') await phones.get(user).call(target);
    else if (op === 'register') phones.get(user).register();
    else await phones.get(user)[op](call, status);
  } catch (error) {
    say({ user, event: 'error', call, text: `${op}: ${error}` });
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => perform(JSON.parse(line)))
  .on('close', () => process.exit(0));
say({ event: 'ready' });

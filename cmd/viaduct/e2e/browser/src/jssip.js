import JsSIP from 'jssip';
import { FixedPeerConnection } from './fixedpeerconnection.js';
import { Calls, fixedMedia, report, tone } from './page.js';
import { listen, soundLike } from './tone.js';

if (fixedMedia) window.RTCPeerConnection = FixedPeerConnection;
if (tone) soundLike(tone);

const uas = new Map();
const calls = new Calls();
const subscriptions = new Calls();

// JsSIP asks for a microphone unless it is told that there is none.
const media = fixedMedia
  ? { mediaConstraints: { audio: false, video: false } }
  : { mediaConstraints: { audio: true, video: false } };

function ua(name) {
  const found = uas.get(name);
  if (!found) throw new Error(`no UA ${name}`);
  return found;
}

/** Reports the final response, or its absence, to a request outside a call. */
function outcome(of, method) {
  return {
    succeeded: (e) => report('response', { ua: of, method, status: e.response.status_code }),
    failed: (e) => report('response', { ua: of, method, status: e.response?.status_code ?? 0, cause: e.cause }),
  };
}

/** The same for a request in a call. */
function outcomeInCall(call, method) {
  const answered = (response) => report('response', { call, method, status: response.status_code });
  return {
    onSuccessResponse: answered,
    onErrorResponse: answered,
    onDialogError: answered,
    onRequestTimeout: () => report('response', { call, method, status: 0, cause: 'timeout' }),
    onTransportError: () => report('response', { call, method, status: 0, cause: 'transport' }),
  };
}

function watch(session) {
  const call = calls.add(session);
  const end = (name) => (e) =>
    report(name, { call, originator: e.originator, cause: e.cause, status: e.message?.status_code ?? 0 });
  session.on('progress', (e) => report('progress', { call, originator: e.originator, status: e.response?.status_code ?? 0 }));
  session.on('accepted', (e) => report('accepted', { call, originator: e.originator }));
  session.on('confirmed', (e) => report('confirmed', { call, originator: e.originator }));
  session.on('ended', end('ended'));
  session.on('failed', end('failed'));
  session.on('newInfo', (e) => {
    if (e.originator === 'remote') report('request', { call, method: 'INFO', body: e.info.body });
  });
  session.on('reinvite', () => report('request', { call, method: 'INVITE' }));
  session.on('update', () => report('request', { call, method: 'UPDATE' }));
  session.on('refer', (e) => {
    report('request', { call, method: 'REFER', body: e.request.refer_to.uri.toString() });
    e.accept((referred) => report('outgoing', { call: watch(referred) }), media);
  });
  for (const failure of ['getusermediafailed', 'peerconnection:createofferfailed', 'peerconnection:createanswerfailed',
    'peerconnection:setlocaldescriptionfailed', 'peerconnection:setremotedescriptionfailed']) {
    session.on(failure, (error) => report('mediaFailed', { call, cause: `${failure}: ${error}` }));
  }
  return call;
}

/** The commands of the test. A string that one returns, the name of a call, reaches the test. */
window.phone = {
  newUA(name, options) {
    const socket = new JsSIP.WebSocketInterface(options.ws);
    const agent = new JsSIP.UA({
      sockets: [socket],
      uri: options.uri,
      authorization_user: options.user,
      password: options.password,
      register: false,
      register_expires: options.expires ?? 600,
      session_timers: false,
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 2,
      ...(options.contactURI && { contact_uri: options.contactURI }),
    });
    uas.set(name, agent);
    agent.on('connected', () => report('connected', { ua: name }));
    agent.on('disconnected', (e) => report('disconnected', { ua: name, status: e.code, cause: e.reason }));
    agent.on('registered', (e) => report('registered', { ua: name, status: e.response.status_code }));
    agent.on('unregistered', (e) => report('unregistered', { ua: name, status: e.response?.status_code ?? 0 }));
    agent.on('registrationFailed', (e) =>
      report('registrationFailed', { ua: name, status: e.response?.status_code ?? 0, cause: e.cause }));
    agent.on('newRTCSession', ({ originator, session, request }) => {
      if (originator === 'remote') report('incoming', { ua: name, call: watch(session), body: request.from.uri.toString() });
    });
    agent.on('newMessage', ({ originator, request }) => {
      if (originator === 'remote') report('request', { ua: name, method: 'MESSAGE', body: request.body });
    });
    agent.on('newOptions', ({ originator }) => {
      if (originator === 'remote') report('request', { ua: name, method: 'OPTIONS' });
    });
    agent.on('sipEvent', ({ request }) => report('request', { ua: name, method: 'NOTIFY', body: request.body }));
    agent.start();
  },

  register: (name) => ua(name).register(),
  unregister: (name) => ua(name).unregister(),
  unregisterAll: (name) => ua(name).unregister({ all: true }),
  stop: (name) => ua(name).stop(),
  closeSocket: (name) => ua(name).transport.socket._ws.close(),
  loseSocket(name) {
    const { socket } = ua(name).transport;
    const lost = socket._ws;
    const hear = lost.onclose;
    lost.onclose = lost.onmessage = lost.onerror = null;
    socket._ws = null;
    hear(new CloseEvent('close', { code: 1006, wasClean: false }));
  },

  call(name, target, options = {}) {
    return watch(ua(name).call(target, { ...media, ...options }));
  },
  async answer(call) {
    // To a call without an offer JsSIP offers no audio unless it has a stream.
    const mediaStream = tone ? await navigator.mediaDevices.getUserMedia() : undefined;
    calls.get(call).answer({ ...media, mediaStream });
  },
  reject: (call, status) => calls.get(call).terminate({ status_code: status }),
  cancel: (call) => calls.get(call).terminate(),
  bye: (call) => calls.get(call).terminate(),

  reinvite(call) {
    if (!calls.get(call).renegotiate({}, () => report('response', { call, method: 'INVITE', status: 200 }))) {
      throw new Error('JsSIP is not ready to renegotiate');
    }
  },
  update(call) {
    if (!calls.get(call).renegotiate({ useUpdate: true }, () => report('response', { call, method: 'UPDATE', status: 200 }))) {
      throw new Error('JsSIP is not ready to renegotiate');
    }
  },
  hold: (call) => calls.get(call).hold(),
  resume: (call) => calls.get(call).unhold(),
  dial: (call, digits) => calls.get(call).sendDTMF(digits, { transportType: 'RFC2833' }),
  listen: (call) => listen(call, calls.get(call).connection),
  info: (call, contentType, body) =>
    calls.get(call).sendRequest('INFO', {
      extraHeaders: [`Content-Type: ${contentType}`],
      body,
      eventHandlers: outcomeInCall(call, 'INFO'),
    }),
  refer: (call, target) =>
    calls.get(call).refer(target, {
      eventHandlers: {
        requestSucceeded: (e) => report('response', { call, method: 'REFER', status: e.response.status_code }),
        requestFailed: (e) => report('response', { call, method: 'REFER', status: e.message?.status_code ?? 0, cause: e.cause }),
        trying: (e) => report('referProgress', { call, status: e.status_line.status_code }),
        progress: (e) => report('referProgress', { call, status: e.status_line.status_code }),
        accepted: (e) => report('referProgress', { call, status: e.status_line.status_code }),
        failed: (e) => report('referProgress', { call, status: e.status_line?.status_code ?? 0 }),
      },
    }),

  message: (name, target, body) => ua(name).sendMessage(target, body, { eventHandlers: outcome(name, 'MESSAGE') }),
  options: (name, target) => ua(name).sendOptions(target, '', { eventHandlers: outcome(name, 'OPTIONS') }),

  subscribe(name, target, event, accept) {
    const subscriber = ua(name).subscribe(target, event, accept, { expires: 600 });
    const id = subscriptions.add(subscriber);
    subscriber.on('accepted', () => report('response', { ua: name, call: id, method: 'SUBSCRIBE', status: 200 }));
    subscriber.on('notify', (final, request, body) => report('request', { ua: name, call: id, method: 'NOTIFY', body }));
    subscriber.on('terminated', (code, reason) => report('subscriptionEnded', { ua: name, call: id, cause: `${code} ${reason ?? ''}` }));
    subscriber.subscribe();
    return id;
  },
  unsubscribe: (id) => subscriptions.get(id).terminate(),
};

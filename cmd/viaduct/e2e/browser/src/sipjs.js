import {
  Inviter, Messager, Registerer, RegistererState, SessionState, SIPExtension, Subscriber, UserAgent,
} from 'sip.js';
import { Calls, fixedMedia, fixedSDP, report, tone } from './page.js';
import { listen, soundLike } from './tone.js';

if (tone) soundLike(tone);

const uas = new Map();
const calls = new Calls();
const subscriptions = new Calls();

function ua(name) {
  const found = uas.get(name);
  if (!found) throw new Error(`no UA ${name}`);
  return found;
}

function uri(text) {
  const parsed = UserAgent.makeURI(text);
  if (!parsed) throw new Error(`not a URI: ${text}`);
  return parsed;
}

/** A session description handler that has no media behind it. */
function fixedDescriptions() {
  return {
    close() {},
    hasDescription: (contentType) => contentType === 'application/sdp',
    getDescription: async () => ({ body: fixedSDP(), contentType: 'application/sdp' }),
    setDescription: async () => {},
    rollbackDescription: async () => {},
    sendDtmf: () => false,
  };
}

/** Reports every response to a request. */
function outcome(fields) {
  const answered = (response) => {
    const { statusCode, method } = response.message;
    report('response', { ...fields, method, status: statusCode });
  };
  return { onAccept: answered, onReject: answered, onRedirect: answered };
}

/** Puts a call on hold, or takes it back: the microphone is the application's business. */
function setHold(call, hold) {
  const { session } = calls.get(call);
  session.sessionDescriptionHandlerOptionsReInvite = { hold };
  session.sessionDescriptionHandler.enableSenderTracks(!hold);
  return session.invite({ requestDelegate: outcome({ call }) });
}

function watch(session) {
  const state = { session, established: false, status: 0 };
  const call = calls.add(state);
  session.stateChange.addListener((next) => {
    if (next === SessionState.Established) {
      state.established = true;
      report('accepted', { call });
    }
    // The listeners of the response come after this one: the status is theirs.
    if (next === SessionState.Terminated) {
      queueMicrotask(() => report(state.established ? 'ended' : 'failed', { call, status: state.status, cause: state.cause ?? '' }));
    }
  });
  session.delegate = {
    onAck: () => report('confirmed', { call, originator: 'remote' }),
    onBye: (bye) => {
      state.cause = 'BYE';
      bye.accept();
    },
    onCancel: () => {
      state.cause = 'Canceled';
    },
    onInfo: (info) => {
      report('request', { call, method: 'INFO', body: info.request.body });
      info.accept();
    },
    onInvite: () => report('request', { call, method: 'INVITE' }),
    onMessage: (message) => {
      report('request', { call, method: 'MESSAGE', body: message.request.body });
      message.accept();
    },
    onNotify: (notification) => {
      report('request', { call, method: 'NOTIFY', body: notification.request.body });
      notification.accept();
    },
    onRefer: async (referral) => {
      report('request', { call, method: 'REFER', body: referral.referTo.uri.toString() });
      await referral.accept();
      const inviter = referral.makeInviter();
      report('outgoing', { call: watch(inviter) });
      await inviter.invite();
    },
  };
  return call;
}

/** Reconnects, and registers again: SIP.js leaves both to the application. */
async function comeBack(name, register) {
  try {
    await ua(name).agent.reconnect();
  } catch {
    setTimeout(comeBack, 1000, name, register);
    return;
  }
  if (register) window.phone.register(name);
}

/** The commands of the test. A string that one returns, the name of a call, reaches the test. */
window.phone = {
  async newUA(name, options) {
    const agent = new UserAgent({
      uri: uri(options.uri),
      authorizationUsername: options.user,
      authorizationPassword: options.password,
      transportOptions: { server: options.ws },
      gracefulShutdown: false,
      logLevel: 'warn',
      sipExtension100rel: SIPExtension.Supported,
      ...(fixedMedia && { sessionDescriptionHandlerFactory: fixedDescriptions }),
      ...(options.viaHost && { viaHost: options.viaHost }),
      ...(options.contactName && { contactName: options.contactName }),
    });
    const registerer = new Registerer(agent, { expires: options.expires ?? 600 });
    uas.set(name, { agent, registerer });
    registerer.stateChange.addListener((next) => {
      if (next === RegistererState.Unregistered) report('unregistered', { ua: name });
    });
    agent.delegate = {
      onConnect: () => report('connected', { ua: name }),
      onDisconnect: (error) => {
        report('disconnected', { ua: name, cause: error ? String(error) : '' });
        if (error) comeBack(name, registerer.state === RegistererState.Registered);
      },
      onInvite: (invitation) => {
        const call = watch(invitation);
        report('incoming', { ua: name, call, body: invitation.remoteIdentity.uri.toString() });
        // JsSIP rings by itself; here the application does.
        if (!options.silent) invitation.progress();
      },
      onMessage: (message) => {
        report('request', { ua: name, method: 'MESSAGE', body: message.request.body });
        message.accept();
      },
      onNotify: (notification) => {
        report('request', { ua: name, method: 'NOTIFY', body: notification.request.body });
        notification.accept();
      },
    };
    await agent.start();
  },

  register: (name) =>
    ua(name).registerer.register({
      requestDelegate: {
        onAccept: (response) => report('registered', { ua: name, status: response.message.statusCode }),
        onReject: (response) =>
          report('registrationFailed', { ua: name, status: response.message.statusCode, cause: response.message.reasonPhrase }),
      },
    }),
  unregister: (name) => ua(name).registerer.unregister(),
  unregisterAll: (name) => ua(name).registerer.unregister({ all: true }),
  stop: (name) => ua(name).agent.stop(),
  closeSocket: (name) => ua(name).agent.transport._ws.close(),
  // SIP.js forgets the socket that reports its end.
  loseSocket: (name) => {
    ua(name).agent.transport._ws.dispatchEvent(new CloseEvent('close', { code: 1006, wasClean: false }));
  },

  call(name, target, options = {}) {
    const inviter = new Inviter(ua(name).agent, uri(target), options);
    const call = watch(inviter);
    const state = calls.get(call);
    inviter.invite({
      requestDelegate: {
        onProgress: (response) => report('progress', { call, originator: 'remote', status: response.message.statusCode }),
        onAccept: () => report('confirmed', { call, originator: 'local' }),
        onReject: (response) => {
          state.status = response.message.statusCode;
          state.cause = response.message.reasonPhrase;
        },
      },
    }).catch((error) => report('mediaFailed', { call, cause: String(error) }));
    return call;
  },
  answer: (call) => calls.get(call).session.accept(),
  reject: (call, status) => calls.get(call).session.reject({ statusCode: status }),
  progressReliably: (call) => calls.get(call).session.progress({ statusCode: 183, rel100: true }),
  cancel: (call) => calls.get(call).session.cancel(),
  bye: (call) => calls.get(call).session.bye(),
  reinvite: (call) =>
    calls.get(call).session.invite({ requestDelegate: outcome({ call }) }),
  hold: (call) => setHold(call, true),
  resume: (call) => setHold(call, false),
  dial: (call, digits) => calls.get(call).session.sessionDescriptionHandler.sendDtmf(digits),
  listen: (call) => listen(call, calls.get(call).session.sessionDescriptionHandler.peerConnection),
  info: (call, contentType, body) =>
    calls.get(call).session.info({
      requestOptions: { body: { contentDisposition: 'render', contentType, content: body } },
      requestDelegate: outcome({ call }),
    }),
  refer: (call, target) =>
    calls.get(call).session.refer(uri(target), {
      requestDelegate: outcome({ call }),
      onNotify: (notification) => {
        const [, status] = /^SIP\/2\.0 (\d+)/.exec(notification.request.body) ?? [];
        report('referProgress', { call, status: Number(status) });
        notification.accept();
      },
    }),

  message: (name, target, body) =>
    new Messager(ua(name).agent, uri(target), body).message({ requestDelegate: outcome({ ua: name }) }),
  options(name, target) {
    const { userAgentCore: core, configuration } = ua(name).agent;
    const request = core.makeOutgoingRequestMessage('OPTIONS', uri(target), configuration.uri, uri(target), {});
    core.request(request, outcome({ ua: name }));
  },

  async subscribe(name, target, event, accept) {
    const subscriber = new Subscriber(ua(name).agent, uri(target), event, { expires: 600, extraHeaders: [`Accept: ${accept}`] });
    const id = subscriptions.add(subscriber);
    subscriber.delegate = {
      onNotify: (notification) => {
        report('request', { ua: name, call: id, method: 'NOTIFY', body: notification.request.body });
        notification.accept();
      },
    };
    subscriber.stateChange.addListener((next) => {
      if (next === 'Subscribed') report('response', { ua: name, call: id, method: 'SUBSCRIBE', status: 200 });
      if (next === 'Terminated') report('subscriptionEnded', { ua: name, call: id });
    });
    await subscriber.subscribe();
    return id;
  },
  unsubscribe: (id) => subscriptions.get(id).unsubscribe(),
};

// The phone: joins the line, the call and what is seen of them.

import { claim, firstFree } from './accounts.js';
import { Call } from './call.js';
import { Line } from './line.js';
import { openMicrophone } from './microphone.js';
import { ring, stopRinging } from './sound.js';
import { microphoneFailure } from './words.js';
import { AccountView } from './view/account.js';
import { CallView } from './view/call.js';
import { DevicesView } from './view/devices.js';
import { DialerView } from './view/dialer.js';
import { $, say } from './view/dom.js';

const title = document.title;
const config = await (await fetch('config.json')).json();

const socketURL = new URL(config.path, location.href);
socketURL.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';

const line = new Line(socketURL.href);
let call = null;

const accountView = new AccountView(config, {
  register(account) {
    claim(account.user);
    line.register(account);
  },
  unregister: () => line.unregister(),
});
const dialerView = new DialerView(config, dial);
const devicesView = new DevicesView({ microphone: changeMicrophone, speaker: changeSpeaker });
const callView = new CallView({
  answer,
  reject: () => call.reject(),
  hangUp: () => call.hangUp(line.connection === 'connected'),
  mute: () => call.toggleMute(),
  hold() {
    if (!call.toggleHold()) notice('The other side has not answered the last change yet. Try again.');
  },
  dial: (digit) => call.dial(digit, config.dtmf),
});

line.addEventListener('change', render);
line.addEventListener('connected', () => call?.lineIsBack());
line.addEventListener('incoming', ({ detail: session }) => {
  if (call) return session.terminate({ status_code: 486 });
  const { uri, display_name: displayName } = session.remote_identity;
  take(Call.incoming(session, { number: uri.user ?? uri.host, name: nameOf(uri.user) ?? displayName }));
});

for (const button of document.querySelectorAll('.views button')) {
  button.onclick = () => showView(button.dataset.view);
}

say($('route'), `PBX at ${config.upstream.replace(/^sips?:/, '')}`);
render();
if (config.accounts.length) accountView.choose(await firstFree(config.accounts));

/** Calls number, which may also be an address. */
async function dial(number) {
  if (call || line.connection !== 'connected') return;
  if (!line.valid(number)) return dialerView.outcome(`${number} is neither a number nor an address`);
  take(new Call({ number, name: nameOf(number) }, 'preparing'));
  const mine = call;
  const stream = await microphone();
  if (stream) mine.start(line, stream);
  else mine.hangUp(true);
}

async function answer() {
  const mine = call;
  mine.prepare(true);
  const stream = await microphone();
  if (stream) mine.answer(stream);
  else mine.prepare(false);
}

/** The microphone's stream, or null once the page has said why there is none. */
async function microphone() {
  notice('');
  try {
    const stream = await openMicrophone(devicesView.microphone);
    devicesView.refresh();
    return stream;
  } catch (error) {
    notice(microphoneFailure(error));
    return null;
  }
}

async function changeMicrophone() {
  if (call?.state !== 'talking') return;
  const mine = call;
  const stream = await microphone();
  if (stream) await mine.replaceMicrophone(stream);
}

async function changeSpeaker(deviceId) {
  try {
    await $('audio').setSinkId(deviceId);
  } catch {
    notice('This speaker cannot be used. Choose another.');
  }
}

function take(taken) {
  call = taken;
  notice('');
  dialerView.outcome('');
  showView('phone');
  call.addEventListener('change', render);
  call.addEventListener('ended', () => {
    dialerView.outcome(`${taken.peer.name ?? taken.peer.number}: ${taken.outcome}`);
    call = null;
    render();
    // On a touch screen the focus would bring up the keyboard.
    if (!matchMedia('(pointer: coarse)').matches) $('target').focus({ preventScroll: true });
  });
  render();
  // Not a button: Enter, pressed for something else, must neither answer nor hang up.
  $('peer').focus({ preventScroll: true });
}

function nameOf(number) {
  const account = config.accounts.find(({ user }) => user === number);
  return (account ?? config.extensions.find((extension) => extension.number === number))?.name;
}

function notice(text) {
  say($('notice'), text);
  $('notice').hidden = !text;
}

function showView(view) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll('.views button')) {
    button.setAttribute('aria-pressed', String(button.dataset.view === view));
  }
}

function render() {
  accountView.show(line.account && line, call);
  dialerView.show(line.account?.user, line.connection === 'connected');
  $('dialer').hidden = Boolean(call) || !line.account;
  callView.show(call);
  sound();
  document.title = call?.state === 'incoming' ? `${call.peer.name ?? call.peer.number} is calling` : title;
}

/** Lets the other side be heard, or the call ring. */
function sound() {
  const audio = $('audio');
  const remote = call?.remote ?? null;
  if (audio.srcObject !== remote) audio.srcObject = remote;
  if (call?.state === 'incoming' && !call.answering) ring('incoming');
  else if (call?.state === 'ringing') ring('outgoing');
  else stopRinging();
}

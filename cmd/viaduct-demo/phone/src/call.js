// One call: a JsSIP session, the microphone it uses and what it sounds like.

import { ending } from './words.js';
import { close } from './microphone.js';

const media = { pcConfig: { iceServers: [] } }; // without STUN: addresses of this machine and its networks
const gatheringTime = 500; // ms; with the addresses found by then the offer is sent

/** Fires "change" whenever one of its fields does, and "ended" once. */
export class Call extends EventTarget {
  /** preparing, calling, ringing, incoming, talking, or ended. */
  state;
  /** Whom we talk to, {number, name}. */
  peer;
  held = false; // by us
  heldByPeer = false;
  muted = false;
  /** Answered, but the microphone is not there yet. */
  answering = false;
  /** Hung up while the line was away: the PBX hears of it later. */
  leaving = false;
  /** Digits sent and received. */
  sent = '';
  received = '';
  /** Date.now() when it was answered, or 0. */
  since = 0;
  /** How it ended, in words. */
  outcome = '';
  /** The other side's audio, and ours. */
  remote = new MediaStream();
  local = null;

  #session = null;
  #cancelled = false;
  #gathering = null;

  constructor(peer, state) {
    super();
    this.peer = peer;
    this.state = state;
  }

  /** A call that came in as a JsSIP session. */
  static incoming(session, peer) {
    const call = new Call(peer, 'incoming');
    call.#attach(session);
    return call;
  }

  /** Calls by line, with the microphone's stream, which the call closes at its end. */
  start(line, stream) {
    if (this.state === 'ended') return close(stream);
    this.local = stream;
    this.#attach(line.call(this.peer.number, { mediaStream: stream, ...media }));
    this.#watch(this.#session.connection);
    this.#set({ state: 'calling' });
  }

  /** Says whether the microphone is being asked for, to answer. */
  prepare(answering) {
    this.#set({ answering });
  }

  /** Answers with the microphone's stream, which the call closes at its end. */
  answer(stream) {
    if (this.state !== 'incoming') return close(stream);
    this.local = stream;
    this.#session.on('peerconnection', ({ peerconnection }) => this.#watch(peerconnection));
    this.#session.answer({ mediaStream: stream, ...media });
  }

  reject() {
    this.#session.terminate({ status_code: 486 });
  }

  /** Ends the call, as far as the PBX knows once connected is true. */
  hangUp(connected) {
    this.#cancelled = this.state !== 'talking';
    if (!this.#session) return this.#end('Call cancelled');
    if (connected || this.#cancelled) return this.#session.terminate();
    this.#silence();
    this.#set({ leaving: true });
  }

  /** Tells the PBX what it could not be told while the line was away. */
  lineIsBack() {
    if (this.leaving) this.#session.terminate();
  }

  /** False if JsSIP is still busy with an earlier change. */
  toggleHold() {
    return this.held ? this.#session.unhold() : this.#session.hold();
  }

  toggleMute() {
    if (this.muted) this.#session.unmute({ audio: true });
    else this.#session.mute({ audio: true });
  }

  /** Sends a digit, by SIP INFO or in the audio as 'RFC2833' has it. */
  dial(digit, transportType) {
    this.#session.sendDTMF(digit, { transportType });
    this.#set({ sent: this.sent + digit });
  }

  /** Goes on with another microphone. */
  async replaceMicrophone(stream) {
    const [sender] = this.#session.connection.getSenders();
    const [track] = stream.getAudioTracks();
    track.enabled = sender.track?.enabled ?? true;
    await sender.replaceTrack(track);
    close(this.local);
    this.#set({ local: stream });
  }

  #attach(session) {
    this.#session = session;
    session.on('progress', ({ originator }) => {
      if (originator === 'remote') this.#set({ state: 'ringing' });
    });
    session.on('accepted', () => this.#set({ state: 'talking', since: Date.now() }));
    session.on('hold', (e) => this.#hold(e.originator, true));
    session.on('unhold', (e) => this.#hold(e.originator, false));
    session.on('muted', () => this.#set({ muted: true }));
    session.on('unmuted', () => this.#set({ muted: false }));
    session.on('newDTMF', ({ originator, dtmf }) => {
      if (originator === 'remote') this.#set({ received: this.received + dtmf.tone });
    });
    session.on('icecandidate', ({ ready }) => {
      this.#gathering ??= setTimeout(() => {
        this.#gathering = null;
        ready();
      }, gatheringTime);
    });
    const ended = (e) => this.#end(ending(e, { established: this.since > 0, cancelled: this.#cancelled }));
    session.on('ended', ended);
    session.on('failed', ended);
  }

  #watch(connection) {
    connection.addEventListener('track', ({ track }) => {
      this.remote.addTrack(track);
      this.#set({});
    });
  }

  #hold(originator, on) {
    this.#set(originator === 'local' ? { held: on } : { heldByPeer: on });
  }

  #silence() {
    close(this.local);
    for (const track of this.remote.getTracks()) track.enabled = false;
  }

  #end(outcome) {
    if (this.state === 'ended') return;
    close(this.local);
    this.#set({ state: 'ended', outcome });
    this.dispatchEvent(new Event('ended'));
  }

  #set(fields) {
    Object.assign(this, fields);
    this.dispatchEvent(new Event('change'));
  }
}

import { fixedSDP } from './page.js';

/**
 * As much of an RTCPeerConnection as JsSIP touches. It gathers nothing, sends
 * nothing and takes whatever description the peer has.
 */
export class FixedPeerConnection extends EventTarget {
  iceGatheringState = 'complete';
  iceConnectionState = 'new';
  signalingState = 'stable';
  localDescription = null;
  remoteDescription = null;

  async createOffer() {
    return { type: 'offer', sdp: fixedSDP() };
  }

  async createAnswer() {
    return { type: 'answer', sdp: fixedSDP() };
  }

  async setLocalDescription(description) {
    this.localDescription = description;
    this.signalingState = description.type === 'offer' ? 'have-local-offer' : 'stable';
  }

  async setRemoteDescription(description) {
    this.remoteDescription = description;
    this.signalingState = description.type === 'offer' ? 'have-remote-offer' : 'stable';
  }

  getSenders() {
    return [];
  }

  close() {
    this.signalingState = 'closed';
  }
}

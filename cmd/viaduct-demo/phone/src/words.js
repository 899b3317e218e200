// What happened, in plain language.

const refusals = new Map([
  [400, 'The PBX did not understand the request'],
  [401, 'Wrong account or password'],
  [403, 'The PBX does not allow this'],
  [404, 'Nobody has this number'],
  [407, 'Wrong account or password'],
  [408, 'The other side did not respond'],
  [415, 'The other side cannot read what was sent'],
  [420, 'The other side lacks a feature that this call needs'],
  [480, 'Not available at the moment'],
  [481, 'The PBX does not know this call any more'],
  [482, 'The call went round in circles'],
  [483, 'The call was passed on too often'],
  [484, 'This number is incomplete'],
  [486, 'Busy'],
  [487, 'Call cancelled'],
  [488, 'The other side cannot talk to a browser: it offers no WebRTC audio'],
  [500, 'The PBX had an internal error'],
  [503, 'The PBX cannot be reached, or is overloaded'],
  [504, 'The PBX waited too long for someone else'],
  [513, 'The message was too large for the PBX'],
  [600, 'Busy everywhere'],
  [603, 'Call declined'],
]);

const causes = new Map([
  ['Connection Error', 'The connection to viaduct was lost'],
  ['Request Timeout', 'No answer from the PBX'],
  ['No Answer', 'No answer'],
  ['User Denied Media Access', 'The browser may not use the microphone'],
  ['WebRTC Error', 'The browser could not set up the audio'],
  ['Bad Media Description', 'The two sides could not agree on audio'],
  ['RTP Timeout', 'No audio arrived any more'],
]);

/** What a final response means for a call. */
export function refusal(status) {
  return refusals.get(status) ?? (status >= 500 ? 'The PBX could not do it' : 'The PBX refused');
}

/** How a call ended: JsSIP's "ended" or "failed" event. */
export function ending({ originator, cause, message }, { established, cancelled }) {
  if (cancelled) return 'Call cancelled';
  if (established) {
    if (cause !== 'Terminated') return causes.get(cause) ?? 'Call ended';
    return originator === 'local' ? 'You hung up' : 'The other side hung up';
  }
  const status = message?.status_code;
  if (status) return withStatus(refusal(status), status);
  if (cause === 'Canceled') return originator === 'remote' ? 'The caller gave up' : 'Call cancelled';
  if (cause === 'Rejected' && originator === 'local') return 'Call declined';
  return causes.get(cause) ?? `Call failed: ${cause}`;
}

/** Why a registration failed: JsSIP's "registrationFailed" event. */
export function registrationFailure({ cause, response }) {
  const status = response?.status_code;
  if (status === 404) return withStatus('The PBX does not know this account', status);
  if (status === 401 || status === 403 || status === 407) return withStatus('The PBX refused the account or its password', status);
  if (status) return withStatus(refusal(status), status);
  return causes.get(cause) ?? 'The registration failed';
}

/** Why the browser gives no microphone: the error of getUserMedia. */
export function microphoneFailure(error) {
  switch (error.name) {
    case 'NotAllowedError':
      return 'The browser may not use the microphone. Allow it beside the page’s address, then call again.';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'No microphone found. Plug one in or choose another below, then call again.';
    case 'NotReadableError':
      return 'The microphone does not work or another program holds it.';
    case 'InsecureContext':
      return 'Browsers give a microphone only to pages that come by https or from this machine.';
    default:
      return `The microphone cannot be used: ${error.message}`;
  }
}

function withStatus(text, status) {
  return `${text} (${status})`;
}

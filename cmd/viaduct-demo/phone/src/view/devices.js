import { $ } from './dom.js';
import { devices, watchDevices } from '../microphone.js';

/** The choice of microphone and speaker. Names are known once a microphone was allowed. */
export class DevicesView {
  constructor({ microphone, speaker }) {
    $('microphone').onchange = (e) => microphone(e.target.value);
    $('speaker').onchange = (e) => speaker(e.target.value);
    // Firefox and Safari may leave the choice of a speaker to the system.
    $('speaker-label').hidden = !('setSinkId' in HTMLMediaElement.prototype);
    watchDevices(() => this.refresh());
    this.refresh();
  }

  /** The microphone's device id; '' is the browser's choice. */
  get microphone() {
    return $('microphone').value;
  }

  async refresh() {
    await fill($('microphone'), 'audioinput');
    await fill($('speaker'), 'audiooutput');
  }
}

async function fill(select, kind) {
  const chosen = select.value;
  const found = await devices(kind);
  select.replaceChildren(new Option('The browser’s choice', ''),
    ...found.map(({ label, deviceId }) => new Option(label, deviceId)));
  select.value = found.some(({ deviceId }) => deviceId === chosen) ? chosen : '';
}

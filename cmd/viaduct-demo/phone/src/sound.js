// What WebAudio does for the phone: level meters and ringing.

let shared = null;

// Browsers let an AudioContext run after the first click or key only.
function context() {
  shared ??= new AudioContext();
  if (shared.state === 'suspended') shared.resume().catch(() => {});
  return shared;
}

const quietest = -60; // dB below full scale that a meter shows as 0
const tick = 60; // ms between two looks at the level
const fall = 0.05; // of a meter's width at each tick: it rises at once and falls slowly

/** Shows the level of a stream on a role=meter element until it is stopped. */
export class Meter {
  #element;
  #source = null;
  #analyser = null;
  #timer = null;
  #level = 0;

  constructor(element) {
    this.#element = element;
  }

  start(stream) {
    this.stop();
    this.#analyser = new AnalyserNode(context(), { fftSize: 1024 });
    this.#source = new MediaStreamAudioSourceNode(context(), { mediaStream: stream });
    this.#source.connect(this.#analyser);
    const samples = new Float32Array(this.#analyser.fftSize);
    this.#timer = setInterval(() => this.#show(Math.max(this.#measure(samples), this.#level - fall)), tick);
  }

  stop() {
    clearInterval(this.#timer);
    this.#source?.disconnect();
    this.#source = this.#analyser = this.#timer = null;
    this.#show(0);
  }

  #measure(samples) {
    this.#analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
    const decibel = 10 * Math.log10(power + 1e-12);
    return Math.min(1, Math.max(0, 1 - decibel / quietest));
  }

  #show(level) {
    this.#level = level;
    this.#element.style.setProperty('--level', level.toFixed(3));
    this.#element.setAttribute('aria-valuenow', String(Math.round(level * 10) * 10));
  }
}

const patterns = {
  // Frequencies in Hz, then seconds of sound and of silence.
  incoming: { tones: [523, 659], on: 1.2, off: 1.8, gain: 0.05 },
  outgoing: { tones: [425], on: 1, off: 4, gain: 0.03 },
};

let ringing = null;

/** Rings as 'incoming' or 'outgoing' until stopRinging. */
export function ring(kind) {
  if (ringing?.kind === kind) return;
  stopRinging();
  const { tones, on, off, gain } = patterns[kind];
  const audio = context();
  const sound = () => {
    const volume = new GainNode(audio, { gain: 0 });
    volume.gain.setTargetAtTime(gain, audio.currentTime, 0.02);
    volume.gain.setTargetAtTime(0, audio.currentTime + on, 0.05);
    volume.connect(audio.destination);
    for (const frequency of tones) {
      const tone = new OscillatorNode(audio, { frequency });
      tone.connect(volume);
      tone.start();
      tone.stop(audio.currentTime + on + 0.5);
    }
    ringing.volume = volume;
  };
  ringing = { kind, timer: setInterval(sound, (on + off) * 1000) };
  sound();
}

export function stopRinging() {
  if (!ringing) return;
  clearInterval(ringing.timer);
  ringing.volume.disconnect();
  ringing = null;
}

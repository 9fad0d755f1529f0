// A picture from the camera, where there is one and the page may use it.

import { alertBox } from './job.js';
import { fill, h } from './dom.js';
import { ServerError } from './api.js';
import { say } from './i18n.js';

/** Whether the browser offers a camera here: it does so on this machine, and over HTTPS. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/** A button that opens the camera; `onPicture(blob)` gets what is taken. `stop()` closes it, also while it is being opened. */
export function camera(onPicture) {
  const alert = alertBox();
  const view = h('div', { class: 'camera' });
  const open = h('button', { type: 'button', click: () => start() }, say('camera.open'));
  let stream = null;
  let opening = 0;

  const stop = () => {
    opening += 1;
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    fill(view);
    open.hidden = false;
  };

  const start = async () => {
    alert.clear();
    open.hidden = true;
    opening += 1;
    const own = opening;
    try {
      const opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
      if (own !== opening) {
        opened.getTracks().forEach((track) => track.stop());
        return;
      }
      stream = opened;
    } catch (error) {
      if (own !== opening) return;
      open.hidden = false;
      alert.show(new ServerError(say('camera.refused', { reason: error.message })));
      return;
    }
    const video = h('video', { autoplay: true, playsinline: true, muted: true, 'aria-label': say('camera.view') });
    video.srcObject = stream;
    const shoot = h('button', { type: 'button', class: 'primary', click: () => shot(video) }, say('camera.take'));
    const close = h('button', { type: 'button', click: stop }, say('camera.close'));
    fill(view, video, h('div', { class: 'row' }, shoot, close));
    shoot.focus();
  };

  const shot = (video) => {
    if (video.videoWidth === 0) return;
    const canvas = h('canvas', { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext('2d').drawImage(video, 0, 0);
    canvas.toBlob((blob) => onPicture(blob), 'image/png');
    stop();
    open.focus();
  };

  return { node: h('div', {}, open, view, alert.node), stop };
}

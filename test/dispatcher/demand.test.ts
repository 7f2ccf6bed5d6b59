import t from 'tap';
import { AppState } from '../../edgepoint/dispatcher/fleet.ts';

t.test('demand says how many there were at once since it was told before', (t) => {
  const app = new AppState('p.main.a');
  app.begun(0);
  app.begun(3);
  app.ended();
  app.ended();
  t.equal(app.demand(0, 'e').peak, 5, 'two under way, and three that waited beside the second');
  t.equal(app.demand(0, 'e').peak, 0, 'told');
  app.begun(0);
  t.equal(app.demand(0, 'e').peak, 1);
  t.equal(app.demand(2, 'e').peak, 3, 'what there is now counts');
  t.end();
});
